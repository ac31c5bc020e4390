"""The venue's market data, live: streams kept alive, books kept right, one cache that any thread reads (SPEC §8,
§22)."""

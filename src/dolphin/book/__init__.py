"""The order book: from snapshots of five bands to the features that the engine reads, in replay and live (SPEC §8)."""

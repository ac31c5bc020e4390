"""Market data on disk: day files, archives and manifests, imports, downloads, synthetic markets (SPEC §1)."""

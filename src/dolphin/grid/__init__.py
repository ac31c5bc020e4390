"""The shared memory of all processes: the port, its typed schemas, and the embedded grid (SPEC §14)."""

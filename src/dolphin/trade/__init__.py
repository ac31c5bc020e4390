"""Trading: what stands between the engine and an exchange, and takes what other threads bring (SPEC §13)."""

"""The scanner: rolling correlation, largest eigenvalue, velocities, instability (SPEC §2)."""

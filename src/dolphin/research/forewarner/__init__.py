"""Training the forewarner: sampled configurations on resampled days, replayed by the real engine (SPEC §11)."""

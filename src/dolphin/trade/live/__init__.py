"""Trading bar by bar as the market goes: one loop from the stream's books to the engine's decision (SPEC §12, §22)."""

"""Risk: what scales the engine up, holds it back or stops it; pure functions and values (SPEC §9, §10, §11)."""

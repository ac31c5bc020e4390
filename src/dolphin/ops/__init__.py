"""What runs around the trader: the daemons, each a folder of its own (SPEC §15)."""

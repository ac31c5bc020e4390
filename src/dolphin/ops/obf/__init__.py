"""The OBF service: books in, features and snapshots out, ten times a second, whatever breaks around it (SPEC §8)."""

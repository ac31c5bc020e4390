"""The engine: signal, direction, selection, sizing, exits, friction, and the one step that composes them (SPEC §3-§7,
§12)."""

"""What runs the system: daemons, flows, and the processes that they need (SPEC §15)."""

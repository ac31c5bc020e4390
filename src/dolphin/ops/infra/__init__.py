"""Processes of others that the system can be run on, started and stopped from code."""

"""Measurements of speed and memory beside named peers in the same run; `python bench/run.py` runs them all."""

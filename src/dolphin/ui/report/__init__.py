"""The tearsheet: one self-contained HTML file."""

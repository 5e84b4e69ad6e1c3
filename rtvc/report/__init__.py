"""A run directory in, one HTML file out."""

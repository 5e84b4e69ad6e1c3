"""Faults on demand: their names, and what brings them about."""

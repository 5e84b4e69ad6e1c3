"""Synthetic speech, corpora and simulated speakers."""

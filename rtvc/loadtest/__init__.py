"""Simulated speakers against any voice server."""

"""Measurements that are too long for a test; each prints its figures and writes them as JSON."""

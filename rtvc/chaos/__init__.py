"""Faults on purpose, one after another and under load: what users felt of each."""

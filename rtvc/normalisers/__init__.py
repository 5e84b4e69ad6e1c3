"""Agreed clean-ups of a text before its errors are counted: one a language, named and versioned."""

from rtvc.normalisers.choice import WITHOUT_SPACES, Normaliser, Unit, normaliser_for, primary_tag

__all__ = ["WITHOUT_SPACES", "Normaliser", "Unit", "normaliser_for", "primary_tag"]

"""rtvc: operations and profiling toolkit for real-time voice chat."""

__version__ = "0.1.0"

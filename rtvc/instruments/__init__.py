"""Measuring instruments, cheap enough to leave on."""

"""Decisions. Nothing in here does I/O, awaits, reads the clock or the environment."""

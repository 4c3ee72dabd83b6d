"""Proves that the log is as it was signed, or finds where it is not; and proves to others what a line says."""

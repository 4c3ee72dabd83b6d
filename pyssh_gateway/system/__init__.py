"""Small helpers for the operating system that several packages need."""

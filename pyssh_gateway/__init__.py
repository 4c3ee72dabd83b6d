"""An SSH server for a development machine that sleeps when nobody uses it."""

__version__ = "0.1.0"

"""Where the checkout is, for tests that read or start what is in it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

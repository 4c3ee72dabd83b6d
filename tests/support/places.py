"""The checkout's path, for tests that read or start files in it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

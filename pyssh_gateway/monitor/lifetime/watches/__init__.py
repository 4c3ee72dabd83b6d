"""What no event reports: whether clients are used, what works, and who is at a terminal."""

"""Commands about the configuration itself: which one is meant, what is in it, and how to begin one."""

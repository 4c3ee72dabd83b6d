"""Commands about the configuration itself: find it, show it, and write a first one."""

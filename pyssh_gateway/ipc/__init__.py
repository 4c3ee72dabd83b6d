"""The messages between processes, and the sockets by which they travel."""

"""What is forwarded for one connection: channels joined to sockets, and the makers of those."""

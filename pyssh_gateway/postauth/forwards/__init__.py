"""Forwarding for one connection: channels joined to sockets, and the code that makes the sockets."""

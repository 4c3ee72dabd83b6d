"""Connections on which somebody has logged in: who they are, and the processes that serve them."""

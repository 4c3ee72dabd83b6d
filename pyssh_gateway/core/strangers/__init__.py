"""Connections on which nobody has logged in yet: places, penalties, and what the log says of refusals."""

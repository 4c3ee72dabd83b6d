"""Connections on which nobody has logged in yet: places, penalties, and the logging of refusals."""

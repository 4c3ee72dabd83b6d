"""Connections on which nobody has logged in yet: accepted, admitted, given a process, and handed over."""

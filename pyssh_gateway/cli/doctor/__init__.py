"""`doctor`: what would keep the server from starting or somebody from logging in, and what to do about it."""

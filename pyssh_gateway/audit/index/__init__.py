"""The index of the log: a database of its connections, sessions and texts. It is derived and disposable."""

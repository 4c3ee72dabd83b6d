"""The spawner's ends of the sockets on which it is asked, and what waits to be read there."""

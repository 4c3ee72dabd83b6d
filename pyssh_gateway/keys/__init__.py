"""Where keys come from: the sources of the people's keys, the ring that holds them, the server's own keys."""

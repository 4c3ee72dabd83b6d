"""The privileged side: forks what runs for users. It never parses a byte from the network."""

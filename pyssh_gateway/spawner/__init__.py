"""The privileged side: it forks the processes that serve users. It never parses a byte from the network."""

"""One stranger: identification, key exchange and authentication, in a process that has nothing but the connection."""

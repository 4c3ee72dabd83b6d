"""The keys: sources of the users' keys, the keyring that holds them, and the server's own keys."""

"""The translation of sshd's configuration into ours: its lines, the accounts of its Match blocks, and the result."""

"""The SSH protocol over asyncssh's private parts."""

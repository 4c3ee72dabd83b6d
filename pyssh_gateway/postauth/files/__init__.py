"""File operations for the log: reported by our SFTP server, or read from the bytes of an scp copy."""

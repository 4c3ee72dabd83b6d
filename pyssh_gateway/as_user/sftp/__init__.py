"""The SFTP server: version 3 with OpenSSH's extensions."""

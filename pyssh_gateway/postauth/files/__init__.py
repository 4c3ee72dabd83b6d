"""What is done to files, for the log: told by our SFTP server, or read along with a copy by scp."""

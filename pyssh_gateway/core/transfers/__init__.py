"""Files that a session moves: what scp copies, and what a forced internal-sftp may do."""

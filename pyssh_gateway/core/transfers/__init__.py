"""File transfers of a session: what scp copies, and what a forced internal-sftp may do."""

"""sshd's configuration, read to be translated into ours: lines, whom a Match block is about, and what becomes of it."""

"""What keeps the machine up, and when it stops."""

"""What people and programs on the machine ask, and what they are told."""

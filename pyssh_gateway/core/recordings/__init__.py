"""What recordings of terminal sessions say, without files: their format, and what in them may reach a terminal."""

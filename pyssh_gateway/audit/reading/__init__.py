"""Reads the log for people: which lines are wanted, what they say, and what they say in other formats."""

"""Recordings of sessions, for those who read them: where they are, what happened in them, what they showed."""

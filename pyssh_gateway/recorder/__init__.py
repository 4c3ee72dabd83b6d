"""The process that writes recordings of sessions."""

"""The commands `audit ...`, one file each: they read the log, and ask no server."""

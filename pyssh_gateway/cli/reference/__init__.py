"""What can be typed, written down once: the command line is read by it, and help, completion and man pages say it."""

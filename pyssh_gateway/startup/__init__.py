"""From the command line to a listening socket and the first process."""

"""The output of the commands, on standard output and standard error."""

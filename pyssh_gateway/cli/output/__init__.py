"""What commands write to standard output and standard error, and how it looks there."""

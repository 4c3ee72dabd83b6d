"""Where the log's lines go besides the file and standard output."""

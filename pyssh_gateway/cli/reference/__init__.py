"""One definition of the command line, from which the parser, help, completion and man pages are made."""

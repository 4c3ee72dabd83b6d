"""Signs what the log is: the key, what is signed, and when."""

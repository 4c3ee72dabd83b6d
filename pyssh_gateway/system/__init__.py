"""Small helpers over the operating system that several rooms need."""

"""Which system calls a process may make, and the kernel's filter that enforces it."""

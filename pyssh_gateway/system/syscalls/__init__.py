"""Which system calls a process may make, and the filter in the kernel that sees to it."""

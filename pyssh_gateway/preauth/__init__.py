"""A connection before login: identification, key exchange and authentication, in a process that has nothing else."""

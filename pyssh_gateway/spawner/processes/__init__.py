"""From a request to a process that runs as the user, and what follows the end of the process."""

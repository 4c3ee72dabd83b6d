"""From a request to a process that is the user, and what follows its end."""

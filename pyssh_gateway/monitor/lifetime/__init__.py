"""How long the machine stays up, and how the server leaves."""

"""What the terminals of the account show is passed to the recorder."""

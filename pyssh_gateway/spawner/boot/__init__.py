"""What is made at boot, before anybody logs in."""

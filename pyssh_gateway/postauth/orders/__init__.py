"""What the monitor orders about connections: refusals, ends of sessions, lines on terminals."""

"""What is known and decided beside the protocol itself: strangers, the log's place, reloads, revoked keys."""

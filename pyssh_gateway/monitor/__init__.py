"""The monitor: what is known and decided outside the protocol itself (strangers, the log, reloads, revoked keys)."""

"""The services of an authenticated client: channels, sessions, forwarding."""

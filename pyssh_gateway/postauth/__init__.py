"""What an authenticated client uses: channels, sessions, forwarding."""

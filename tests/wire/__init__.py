"""The real server seen from the wire: odd, old, broken and hostile peers."""

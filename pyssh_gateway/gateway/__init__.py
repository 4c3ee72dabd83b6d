"""The network side: SSH on one asyncio loop, without rights over anybody's files."""

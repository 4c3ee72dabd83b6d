"""The spawner's ends of the sockets on which it gets requests, and the reports that wait to be sent there."""

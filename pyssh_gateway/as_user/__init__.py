"""What runs as the user in a fork of the spawner, without an exec: file servers, and the maker of sockets."""

"""Code that runs as the user in a fork of the spawner, without an exec: the SFTP and scp servers."""

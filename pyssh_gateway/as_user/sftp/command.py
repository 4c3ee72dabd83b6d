"""Our SFTP server as a command for a shell; see `system.sftp_program`."""

import os

from pyssh_gateway.as_user.sftp import server as sftp


def serve() -> int:
    """Speak SFTP on standard input and output; returns the exit status. File operations are not logged."""
    # Descriptors 0, 1 and 2 are opened if they are closed, or a file of the client would become standard output.
    while (events := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    return sftp.serve(0, 1, events)

"""Our SFTP server as a command for a shell; see `system.sftp_program`."""

import os

from pyssh_gateway.as_user.sftp import server as sftp


def serve() -> int:
    """Speak SFTP on standard input and output; the exit status. What is done to files is in nobody's log."""
    # What is closed of 0, 1 and 2 is opened, or a file of the client's would become standard output.
    while (events := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    return sftp.serve(0, 1, events)

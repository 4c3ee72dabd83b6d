"""SFTP as a command for a shell, like the command of sshd's `Subsystem sftp` for forced commands and account shells.

The command speaks SFTP on its standard input and output, with the rights of its account, and has `sftp-server` in its
name, by which wrappers recognise it.
"""

import os
import shlex
import sys

SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",  # Debian, Ubuntu
    "/usr/libexec/openssh/sftp-server",  # Fedora and its like
    "/usr/lib/ssh/sftp-server",  # Alpine, Arch
    "/usr/libexec/sftp-server",  # as OpenSSH installs itself
)

OWN_NAME = "sftp-server"
"""The command of `pyssh-gateway` that runs our server."""


def for_shell(servers: tuple[str, ...] = SFTP_SERVERS) -> bytes:
    """The value of SSH_ORIGINAL_COMMAND for the sftp subsystem, and the command for shells that we do not know.

    The machine's own server, if it has one: wrappers and shells such as scponly know its path. Else our own program,
    isolated (-I), so that the session's environment and directory do not change Python's imports.
    """
    for server in servers:
        if os.access(server, os.X_OK):
            return os.fsencode(server)
    return os.fsencode(shlex.join([sys.executable, "-I", "-m", "pyssh_gateway", OWN_NAME]))

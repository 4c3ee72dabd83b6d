"""SFTP as a command for a shell, which is what sshd's `Subsystem sftp` is to forced commands and to accounts' shells.

Such a command speaks SFTP on its standard input and output as whoever runs it, and has `sftp-server` in its name, by
which wrappers know it.
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
"""The command of `pyssh-gateway` that is such a server."""


def for_shell(servers: tuple[str, ...] = SFTP_SERVERS) -> bytes:
    """What SSH_ORIGINAL_COMMAND says for the sftp subsystem, and what a shell that we do not know is asked to run.

    The machine's own server, if it has one: wrappers and shells such as scponly know its path. Else our own program,
    isolated (-I) from what the session's environment and directory would have Python import.
    """
    for server in servers:
        if os.access(server, os.X_OK):
            return os.fsencode(server)
    return os.fsencode(shlex.join([sys.executable, "-I", "-m", "pyssh_gateway", OWN_NAME]))

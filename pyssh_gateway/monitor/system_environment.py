"""The variables that the machine gives to every login."""

import os
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.core.launch import parse_environment

SYSTEM_ENVIRONMENT = (Path("/etc/environment"), Path("/etc/default/locale"))
"""What pam_env sets for every login on Debian and Ubuntu; a later file wins."""


def read_system_environment(timezone: str | None) -> dict[bytes, bytes]:
    """The variables that the machine sets for every login. The files are read for each session: they change.

    `timezone` is the server's own TZ, the one variable of its own that sshd passes on (session.c, do_setup_env): an
    image that sets it means everything that runs there. The files win over it, as pam_env's variables do in sshd.
    """
    env = {} if timezone is None else {b"TZ": os.fsencode(timezone)}
    for path in SYSTEM_ENVIRONMENT:
        with suppress(OSError):
            env |= parse_environment(path.read_bytes())
    return env

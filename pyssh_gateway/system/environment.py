"""The variables that the machine gives to every login."""

from contextlib import suppress
from pathlib import Path

SYSTEM_ENVIRONMENT = (Path("/etc/environment"), Path("/etc/default/locale"))
"""The files that pam_env reads for every login on Debian and Ubuntu; a later file wins."""


def read_system_environment(timezone: bytes | None) -> dict[bytes, bytes]:
    """The variables that the machine sets for every login. The files are read for each session: they change.

    `timezone` is the server's own TZ, the one variable of its own that sshd passes on (session.c, do_setup_env): an
    image that sets it means everything that runs there. The files win over it, as pam_env's variables do in sshd.
    """
    env = {} if timezone is None else {b"TZ": timezone}
    for path in SYSTEM_ENVIRONMENT:
        with suppress(OSError):
            env |= parse_environment(path.read_bytes())
    return env


def parse_environment(text: bytes) -> dict[bytes, bytes]:
    """The variables of an /etc/environment or /etc/default/locale, as pam_env reads them.

    `NAME=value` lines, with an optional `export `, comments from a `#` on, and one pair of quotes around the value. A
    line that is malformed is ignored: one typing error there must not keep anybody out.
    """
    env: dict[bytes, bytes] = {}
    for raw in text.splitlines():
        line = raw.partition(b"#")[0].strip()
        name, equals, value = line.removeprefix(b"export ").strip().partition(b"=")
        if not equals or not name or not name.replace(b"_", b"a").isalnum() or b"\0" in value:
            continue
        if len(value) > 1 and value[:1] in {b'"', b"'"} and value[-1:] == value[:1]:
            value = value[1:-1]
        env[name] = value
    return env

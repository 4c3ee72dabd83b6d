"""What the machine itself has against a login: an account that has expired, no shell, /etc/nologin."""

import pwd
import time

from pyssh_gateway.spawner.processes.account_rules import refusal

DAY_SECONDS = 86400


def closed(user: str) -> str:
    """What somebody with a good key would be told instead of a session, on one line; empty if nothing.

    Only root can know all of it: /etc/shadow, which says when an account expires, is closed to others.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return ""  # said elsewhere
    told = refusal(entry, today=int(time.time() // DAY_SECONDS))
    return "" if told is None else " ".join(told.decode(errors="replace").split())

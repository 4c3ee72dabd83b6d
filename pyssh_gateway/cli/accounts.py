"""Reasons of the machine itself to refuse a login: an account that has expired, no shell, /etc/nologin."""

import pwd
import time

from pyssh_gateway.spawner.processes.account_rules import refusal

DAY_SECONDS = 86400


def closed(user: str) -> str:
    """The text that a user with a good key would get instead of a session, on one line; empty if the account is open.

    Only root can check everything: /etc/shadow, which says when an account expires, is closed to others.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return ""  # reported elsewhere
    told = refusal(entry, today=int(time.time() // DAY_SECONDS))
    return "" if told is None else " ".join(told.decode(errors="replace").split())

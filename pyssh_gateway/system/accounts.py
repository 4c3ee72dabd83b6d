"""Names of accounts, and the account of the monitor."""

import pwd

FALLBACK_ACCOUNT = "nobody"
"""An account that every system has, and that owns nothing."""


def name_of(uid: int) -> str | None:
    """The name of the account `uid`; None if it has none, or the directory service does not answer."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return None


def shown_name(uid: int) -> str:
    """The name for people; the uid for an account without a name."""
    return name_of(uid) or f"uid {uid}"


def monitor_account(name: str) -> pwd.struct_passwd:
    """The unprivileged account that the monitor runs as; KeyError if not even the fallback exists."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam(FALLBACK_ACCOUNT)

"""Which sessions are recorded, as the configuration says for the account and for the key that logged in."""

from typing import Literal, cast

import msgspec

from pyssh_gateway.config.types import Audit, Config, Login

What = Literal["pty", "all"]
Kind = Literal["shell", "exec", "subsystem"]


class Recorded(msgspec.Struct, frozen=True):
    """What is recorded of one connection's sessions: those with a terminal, or `all`.

    `input`: also what is typed, where the terminal shows it. `notice` is the first line on a recorded terminal; empty:
    none.
    """

    what: What
    input: bool = False
    notice: str = ""

    def covers(self, kind: Kind, *, terminal: bool) -> bool:
        """Whether a session is recorded, with what the user got: `terminal` is true for a command with a pty, too.

        A subsystem never is: SFTP is the only one, and its operations are in the log, one by one.
        """
        return kind != "subsystem" and (terminal or self.what == "all")


class Bounds(msgspec.Struct, frozen=True):
    """How much is recorded of one session, in bytes and seconds, and how much is kept of all recordings."""

    session_bytes: int
    session_seconds: float
    keep_seconds: float
    keep_bytes: int


class Recording(msgspec.Struct, frozen=True):
    """The accounts of which something may be recorded, depending on the key; and the bounds."""

    accounts: frozenset[str]
    bounds: Bounds


def recorded(audit: Audit, login: Login, fingerprint: str) -> Recorded | None:
    """What is recorded of somebody who logs in to `login` with this key; None: nothing.

    What is said of the key counts before what is said of the account, and that before what is said of all.
    """
    by_key = dict(entry.rsplit("=", 1) for entry in login.record_keys)
    what = by_key.get(fingerprint, login.record or audit.record)
    return None if what == "off" else Recorded(cast(What, what), audit.record_input, audit.record_notice)


def recording(config: Config) -> Recording:
    """The accounts that may be recorded under `config`, and the bounds of recordings."""
    audit = config.audit
    accounts = frozenset(
        login.user
        for login in config.login
        if (login.record or audit.record) != "off" or any(not key.endswith("=off") for key in login.record_keys)
    )
    return Recording(
        accounts,
        Bounds(
            session_bytes=int(audit.record_session_size),
            session_seconds=float(audit.record_session_time),
            keep_seconds=float(audit.record_keep),
            keep_bytes=int(audit.record_keep_size),
        ),
    )

"""Which sessions are recorded: a decision about the configuration, the key and what a session is."""

import pytest

from pyssh_gateway.config.types import Audit, Config, Login
from pyssh_gateway.core.recordings.rules import Bounds, Recorded, Recording, recorded, recording

KEY, OTHER = f"SHA256:{'a' * 43}", f"SHA256:{'b' * 43}"


@pytest.mark.parametrize(
    ("everybody", "login", "keys", "what"),
    [
        ("off", None, (), None),
        ("pty", None, (), "pty"),
        ("pty", "off", (), None),
        ("off", "all", (), "all"),
        ("off", "off", (f"{KEY}=all",), "all"),
        ("all", "all", (f"{KEY}=off",), None),
        ("all", "pty", (f"{OTHER}=off",), "pty"),
        ("off", None, (f"{OTHER}=all", f"{KEY}=pty"), "pty"),
    ],
)
def test_the_key_counts_before_the_account_and_that_before_all(
    everybody: str, login: str | None, keys: tuple[str, ...], what: str | None
) -> None:
    """Protects what the administrator has written: the narrowest setting counts."""
    audit = Audit(record=everybody)
    decided = recorded(audit, Login(user="amos", keys=("file:/keys",), record=login, record_keys=keys), KEY)
    assert (None if decided is None else decided.what) == what


def test_what_is_recorded_comes_with_input_and_notice() -> None:
    """Protects the person: typed text only if wanted, and the words that announce it."""
    login = Login(user="amos", keys=("file:/keys",))
    audit = Audit(record="pty", record_input=True, record_notice="Smile!")
    assert recorded(audit, login, KEY) == Recorded("pty", input=True, notice="Smile!")


@pytest.mark.parametrize(
    ("kind", "terminal", "by_pty", "by_all"),
    [
        ("shell", True, True, True),
        ("shell", False, False, True),
        ("exec", True, True, True),
        ("exec", False, False, True),
        ("subsystem", False, False, False),
    ],
)
def test_a_command_with_a_terminal_is_no_way_around(kind: str, terminal: bool, by_pty: bool, by_all: bool) -> None:
    """Protects recordings from `ssh -t host bash`: what counts is the terminal, not the kind of request."""
    for what, covered in (("pty", by_pty), ("all", by_all)):
        assert Recorded(what).covers(kind, terminal=terminal) is covered  # type: ignore[arg-type]  # of the parameters


def test_of_whom_something_may_be_recorded() -> None:
    """Protects those who are not recorded: only accounts of which something may be get a socket to the recorder."""

    def login(user: str, record: str | None = None, *keys: str) -> Login:
        return Login(user=user, keys=("file:/keys",), record=record, record_keys=keys)

    logins = (
        *(login("a"), login("b", "pty"), login("c", "off", f"{KEY}=off")),
        login("d", "off", f"{OTHER}=off", f"{KEY}=all"),
    )
    bounds = Bounds(session_bytes=64 * 1024**2, session_seconds=86400, keep_seconds=90 * 86400, keep_bytes=2 * 1024**3)
    assert recording(Config(login=logins)) == Recording(frozenset("bd"), bounds)
    assert recording(Config(login=logins, audit=Audit(record="all"))).accounts == frozenset("abd")

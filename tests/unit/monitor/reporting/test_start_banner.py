"""The text that a person sees first, when the server starts."""

from pathlib import Path

import msgspec

from pyssh_gateway.config.types import Config, Idle, Login
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey, KeySnapshot
from pyssh_gateway.core.access.revocations import Revocations, RevokedList
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.source_state import SourceStatus
from pyssh_gateway.monitor.reporting.start_banner import MAX_KEYS_SHOWN, start_banner

HOST_KEY = HostKey(path=Path("k"), private_pem=b"", public_blob=b"", fingerprint="SHA256:host", created=False)
LOGIN = Login(user="amos", keys=("github:example",))


def key(number: int) -> AuthorizedKey:
    """A key that differs from others by its number."""
    return AuthorizedKey(bytes([number]), "ssh-ed25519", f"SHA256:key{number}", "", "github:example")


def status(accepted: int, failure: str = "") -> SourceStatus:
    """The state of the only source."""
    return SourceStatus("github:example", ("amos",), accepted, 0, "fetched", 0.0, failure)


def banner(
    keys: int,
    source: SourceStatus,
    *,
    address: str = "0.0.0.0",
    identity: str = "",
    idle: float | None = 60,
    revoked: tuple[RevokedList, ...] = (),
) -> str:
    """The text for one account."""
    config = Config(login=(LOGIN,), idle=Idle(timeout=None if idle is None else Duration(idle)))
    snapshot = KeySnapshot(
        {"amos": AccountKeys({bytes([number]): (key(number),) for number in range(keys)})}, revoked=revoked
    )
    return start_banner(
        config, ((address, 2222),), (HOST_KEY,), snapshot=snapshot, sources=(source,), identity=identity
    )


def test_it_says_who_with_what_how_and_until_when() -> None:
    """The text has everything that a person needs to log in."""
    text = banner(1, status(1))
    assert "listens on 0.0.0.0:2222" in text
    assert "amos may log in with" in text
    assert "ssh-ed25519  SHA256:key0  from github:example" in text
    assert "SHA256:host\n" in text
    assert "ssh -p 2222 amos@localhost" in text
    assert "stops by itself 1m after" in text


def test_the_command_can_be_pasted() -> None:
    """The command has the listening address, and the key if ssh must be told which."""
    assert "ssh -i keys/demo -p 2222 amos@192.0.2.1" in banner(1, status(1), address="192.0.2.1", identity="keys/demo")


def test_an_empty_source_does_not_look_like_an_open_door() -> None:
    """A source without a key, or with a failed fetch, is reported together with the consequence."""
    assert "nobody gets in" in banner(0, status(0))
    assert "there is no usable key in it" in banner(0, status(0))
    assert "timed out; nobody gets in by it" in banner(0, status(0, "timed out"))
    assert "timed out; 2 keys from before stay in force" in banner(2, status(2, "timed out"))


def test_a_list_that_locks_everybody_out_is_said() -> None:
    """The text says which broken list keeps everybody out; a good list is not mentioned."""
    lists = (RevokedList("file:/good", Revocations("keys")), RevokedList("file:/krl", None, "cannot read /krl"))
    told = [line for line in banner(1, status(1), revoked=lists).splitlines() if "file:/" in line]
    assert told == ["  ! file:/krl: cannot read /krl; NOBODY GETS IN while it is not known what is revoked"]


def test_a_key_that_is_only_announced_is_told_from_others() -> None:
    """Protects people who compare fingerprints: they are told which key is in use."""
    spare = msgspec.structs.replace(HOST_KEY, spare=True)
    told = start_banner(
        Config(login=(LOGIN,)),
        (("0.0.0.0", 2222),),
        (HOST_KEY, spare),
        snapshot=KeySnapshot({"amos": AccountKeys()}),
        sources=(),
        identity="",
    )
    assert "SHA256:host (announced only: another one of its type comes first)" in told


def test_many_keys_do_not_push_the_rest_away() -> None:
    """Many keys are counted and not all listed."""
    text = banner(MAX_KEYS_SHOWN + 5, status(15))
    assert text.count("ssh-ed25519") == MAX_KEYS_SHOWN
    assert "and 5 more" in text


def test_a_server_that_stays_says_so() -> None:
    """The text says if the server does not stop by itself."""
    assert "does not stop by itself" in banner(1, status(1), idle=None)


def test_a_copy_of_the_future_is_said_to_let_in_nobody() -> None:
    """A copy dated in the future lets nobody in, and the text says so."""
    ahead = SourceStatus("github:example", ("amos",), 1, 0, "last-good", 0.0, "", stale=True, ahead=86_400.0)
    assert "! github:example: its last good copy is dated in the future, nobody gets in by it" in banner(1, ahead)


def test_a_source_that_is_still_asked_is_no_empty_one() -> None:
    """Protects the first look: a source that has not answered yet is not reported as empty."""
    pending = SourceStatus("github:example", ("amos",), 0, 0, "none", None, "")
    assert "! github:example: has not answered yet" in banner(0, pending)


def test_nobody_is_told_to_log_in_where_nobody_can() -> None:
    """Without a usable key the text has no command, but a line that says so."""
    text = banner(0, status(0, "timed out"))
    assert "log in  " not in text
    assert "NOBODY CAN LOG IN yet" in text


def test_the_command_names_an_account_that_somebody_can_log_in_to() -> None:
    """Of two logins, the command names the one with a key."""
    config = Config(login=(Login(user="empty", keys=("github:nobody",)), LOGIN))
    snapshot = KeySnapshot({"empty": AccountKeys(), "amos": AccountKeys({b"1": (key(1),)})})
    text = start_banner(config, (("0.0.0.0", 2222),), (HOST_KEY,), snapshot=snapshot, sources=(), identity="")
    assert "ssh -p 2222 amos@localhost" in text

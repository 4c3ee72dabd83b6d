"""keys.revoked_lists: when lists of revoked keys are read, which content counts, and what is reported."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access import revoked_list
from pyssh_gateway.core.access.denials import Denial, Deny
from pyssh_gateway.core.access.revocations import Revocations
from pyssh_gateway.events import InternalError, RevokedListFailed, RevokedListLoaded
from pyssh_gateway.keys import revoked_lists
from pyssh_gateway.keys.looks import FILE_SECONDS
from tests.support import krl
from tests.support.key_lines import ed25519, string
from tests.support.keyring import ALICE, BLOBS, BOB, Ring, play

LOGINS = (config.Login(user="dev", keys=("file:/keys",)),)
SPEC = "file:/revoked"
LISTS = config.Keys(revoked=(SPEC,))
GONE = FileNotFoundError(2, "No such file or directory")


class ListRing(Ring):
    """A ring in which ALICE and BOB may log in, unless the list prevents it."""

    def __init__(self, store: Path, revoked: bytes | OSError) -> None:
        keys = f"{ALICE}\n{BOB}\n".encode()
        super().__init__(store, logins=LOGINS, files={"/keys": keys, "/revoked": revoked}, settings=LISTS, live=True)

    def write(self, revoked: bytes | OSError) -> None:
        """Replace the list's content."""
        self.files = {**self.files, "/revoked": revoked}

    async def log_in(self) -> set[str]:
        """Read the files as at a login, after a while; returns the keys that let in then."""
        self.now += FILE_SECONDS
        await self.keyring.looks.read_files()
        await self.quiet()
        return self.lets_in()

    def told(self) -> list[RevokedListLoaded | RevokedListFailed]:
        """The events about lists since the last call."""
        told = [event for event in self.events if isinstance(event, RevokedListLoaded | RevokedListFailed)]
        self.events.clear()
        return told


@pytest.fixture(autouse=True)
def second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the second look immediate."""
    monkeypatch.setattr(revoked_lists, "SECOND_LOOK", 0.0)


def with_ring(store: Path, revoked: bytes | OSError, story: Callable[[ListRing], Awaitable[None]]) -> None:
    """Run a scenario with a ring that has this list."""
    ring = ListRing(store, revoked)

    async def told() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            await ring.quiet()
            await story(ring)

    play(told())


def test_each_login_is_decided_by_the_list_as_it_is(tmp_path: Path) -> None:
    """A key is refused a second after it was put on the list, and accepted again when it is removed."""

    async def story(ring: ListRing) -> None:
        assert ring.lets_in() == {ALICE, BOB}
        assert ring.told() == [RevokedListLoaded(list=SPEC, kind="keys", entries=0, changed=True)]
        ring.write(ALICE.encode())
        assert await ring.log_in() == {BOB}
        assert ring.refusal(ALICE) == "the key is revoked by file:/revoked"
        ring.write(krl.krl(krl.section(2, string(BLOBS[BOB]))))
        assert await ring.log_in() == {ALICE}
        ring.write(b"")
        assert await ring.log_in() == {ALICE, BOB}
        assert [event.entries for event in ring.told() if isinstance(event, RevokedListLoaded)] == [1, 1, 0]

    with_ring(tmp_path, b"", story)


def test_nobody_gets_in_until_the_list_has_been_read(tmp_path: Path) -> None:
    """At the start nobody gets in, by any copy or key file, before the lists have been read."""
    ring = ListRing(tmp_path, ALICE.encode())
    play(ring.keyring.refresh([source for source in ring.keyring.missing() if source.kind == "file"]))
    denied = ring.decide(BOB)
    assert isinstance(denied, Deny)
    assert (denied.code, denied.final) == (Denial.REVOKED_LIST, True)
    assert denied.reason.endswith("file:/revoked: it has not been read yet")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (GONE, "cannot read /revoked: No such file or directory"),
        (OSError("it belongs to somebody else"), "cannot read /revoked: it belongs to somebody else"),
        (b"nonsense", "line 1 is no public key in OpenSSH's one-line form (without options)"),
        (krl.krl()[:-1], "it is a KRL, and it is cut off"),
        (b"#" * (revoked_list.MAX_BYTES + 1), f"/revoked is larger than {revoked_list.MAX_BYTES} bytes"),
    ],
)
def test_nobody_gets_in_while_the_list_is_broken(tmp_path: Path, broken: bytes | OSError, reason: str) -> None:
    """A broken list lets nobody in; it is reported once, and again when it can be read."""

    async def story(ring: ListRing) -> None:
        ring.told()
        ring.write(broken)
        assert await ring.log_in() == set()
        assert await ring.log_in() == set()
        assert ring.told() == [RevokedListFailed(list=SPEC, reason=reason)]
        (listed,) = ring.keyring.revoked
        assert listed.failure == reason
        assert listed.revocations is not None  # its last content still counts for connected users
        assert BLOBS[ALICE] in listed.revocations.keys
        ring.write(ALICE.encode())
        assert await ring.log_in() == {BOB}
        assert ring.told() == [RevokedListLoaded(list=SPEC, kind="keys", entries=1, changed=False)]

    with_ring(tmp_path, ALICE.encode(), story)


def test_a_list_that_is_being_written_is_read_again(tmp_path: Path) -> None:
    """A list that ssh-keygen empties before it writes it neither lets anybody in nor locks everybody out."""
    seen: list[bytes | OSError] = []

    class Written(ListRing):
        async def read_file(self, path: str) -> bytes:
            content = await super().read_file(path)
            if path == "/revoked":
                seen.append(content)
                self.write(ALICE.encode())
            return content

    ring = Written(tmp_path, ALICE.encode())

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            for halfway in (b"", ALICE.encode()[:20]):
                ring.write(halfway)
                assert await ring.log_in() == {BOB}
        assert seen == [ALICE.encode(), b"", ALICE.encode(), ALICE.encode()[:20], ALICE.encode()]

    play(story())
    assert not any(isinstance(event, RevokedListFailed) for event in ring.events)


def test_a_list_that_says_the_same_is_neither_parsed_nor_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged list is not parsed again, which would slow down each login, and not reported again."""
    parsed: list[bytes] = []

    def counted(text: bytes) -> Revocations:
        parsed.append(text)
        return revoked_list.parse(text)

    monkeypatch.setattr(revoked_lists, "parse", counted)

    async def story(ring: ListRing) -> None:
        ring.told()
        for _ in range(3):
            assert await ring.log_in() == {BOB}
        assert len(parsed) == 1
        assert ring.told() == []
        await ring.keyring.refresh_all()  # an explicit refresh is answered
        assert ring.told() == [RevokedListLoaded(list=SPEC, kind="keys", entries=1, changed=False)]

    with_ring(tmp_path, ALICE.encode(), story)


def test_a_long_list_is_read_beside_the_loop(tmp_path: Path) -> None:
    """Parsing a long list does not block the event loop."""
    lines = b"\n".join(ed25519(number) for number in range(1000, 1400))
    assert len(lines) > revoked_lists.MAX_ON_LOOP

    async def story(ring: ListRing) -> None:
        assert ring.lets_in() == {BOB}

    with_ring(tmp_path, lines + b"\n" + ALICE.encode(), story)


def test_a_bug_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the code for lists lets nobody in, is reported, and ends nothing else."""

    async def story(ring: ListRing) -> None:
        monkeypatch.setattr(revoked_lists, "parse", lambda _text: 1 / 0)
        ring.write(BOB.encode())
        assert await ring.log_in() == set()
        assert ring.refusal(ALICE).endswith("internal error: ZeroDivisionError")
        assert any(isinstance(event, InternalError) for event in ring.events)

    with_ring(tmp_path, ALICE.encode(), story)


def test_a_reload_adds_and_removes_lists(tmp_path: Path) -> None:
    """After a reload, a new list must be read before anybody gets in, and a removed list revokes nothing."""

    async def story(ring: ListRing) -> None:
        ring.files = {**ring.files, "/other": BOB.encode()}
        ring.keyring.reconfigure(LOGINS, config.Keys(revoked=(SPEC, "file:/other")))
        assert ring.lets_in() == set()
        assert await ring.log_in() == set()
        assert {ring.refusal(ALICE), ring.refusal(BOB)} == {
            "the key is revoked by file:/revoked",
            "the key is revoked by file:/other",
        }
        ring.keyring.reconfigure(LOGINS, config.Keys())
        assert ring.lets_in() == {ALICE, BOB}
        assert ring.keyring.revoked == ()
        assert await ring.log_in() == {ALICE, BOB}

    with_ring(tmp_path, ALICE.encode(), story)


def test_before_a_connection_ends_its_list_is_read_again(tmp_path: Path) -> None:
    """Before a connection ends, its list is read again, and a key that was removed from it meanwhile counts."""

    async def story(ring: ListRing) -> None:
        assert ring.lets_in() == {BOB}
        ring.write(b"# nobody")
        ring.now += FILE_SECONDS
        assert await ring.keyring.looks.look_up("file:/keys")
        assert ring.lets_in() == {ALICE, BOB}

    with_ring(tmp_path, ALICE.encode(), story)


def test_lists_are_no_sources_of_keys(tmp_path: Path) -> None:
    """A list is no source of keys: it is not shown as one and has no copy, and a key file may be both."""
    ring = Ring(
        tmp_path,
        logins=LOGINS,
        files={"/keys": f"{ALICE}\n".encode()},
        settings=config.Keys(revoked=("file:/keys",)),
        live=True,
    )

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            await ring.quiet()

    play(story())
    assert [status.spec for status in ring.keyring.describe()] == ["file:/keys"]
    assert ring.refusal(ALICE) == "the key is revoked by file:/keys"
    assert len(list(tmp_path.iterdir())) == 1
    again = ring.restarted(tmp_path, logins=LOGINS, settings=config.Keys(revoked=("file:/keys",)))
    assert again.refusal(ALICE).endswith("it has not been read yet")

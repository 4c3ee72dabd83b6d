"""When checkpoints are signed, and that they never cover more than is on the disk, nor go backwards."""

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME
from pyssh_gateway.audit.sinks.configured import Sinks
from pyssh_gateway.audit.sinks.sink import Sink
from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.core.transparency.checkpoint import log_key
from pyssh_gateway.events import IdleTick, Record
from pyssh_gateway.monitor.log.checkpoints import schedule
from pyssh_gateway.monitor.log.checkpoints.schedule import Checkpoints
from pyssh_gateway.monitor.log.checkpoints.signer import Signer
from pyssh_gateway.monitor.log.checkpoints.signing_key import SigningKey
from tests.support.virtual_time import run_virtually
from tests.support.waiting import PATIENCE

TICK = Record(1, 1.0, IdleTick(idle=5, remaining=55, message=""))


def signer() -> Signer:
    """Signs with a key of its own."""
    private = Ed25519PrivateKey.generate()
    return Signer(SigningKey(log_key(private.public_key().public_bytes_raw()), private.sign))


class Log:
    """A log without files. `syncs` are the results of syncing it: done, or an error."""

    def __init__(self, *syncs: OSError | None) -> None:
        self.tree = Tree()
        self.is_counted = True
        self.syncs = list(syncs)
        self.signed: list[tuple[float, int]] = []

    def syncer(self) -> "Log":
        """Syncs it."""
        return self

    def __call__(self) -> None:
        """Sync it."""
        if self.syncs and (error := self.syncs.pop(0)):
            raise error

    def close(self) -> None:
        """It was not synced."""
        self.syncs.append(None)

    def add_checkpoint(self, now: float, note: str) -> None:
        """Remember it."""
        self.signed.append((now, int(note.split("\n")[1])))


class Sent:
    """A sink that keeps what it gets."""

    lost = 0

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.offer = self.lines.append

    def begin_to_close(self) -> None:
        """Nothing waits."""

    def close(self, timeout: float) -> None:
        """Nothing is open."""


def checkpoints(log: Log, said: list[str] | None = None, signs: Signer | None = None) -> Checkpoints:
    """Those of this log, by the loop's time."""
    loop = asyncio.get_running_loop()
    complain = pytest.fail if said is None else said.append
    return Checkpoints(cast(AuditLog, log), signs or signer(), complain=complain, clock=loop.time, loop=loop)


def test_soon_after_a_line_but_at_most_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint covers the lines of a few seconds; then there is one a minute, also if one was not possible."""

    async def at_once(work: Callable[[], None], *, name: str) -> None:
        work()

    async def story() -> None:
        monkeypatch.setattr(schedule, "in_daemon_thread", at_once)  # the loop's clock would not wait for a thread
        log = Log(OSError(errno.EIO, "Input/output error"))
        made = checkpoints(log, said=[])
        running = asyncio.ensure_future(made.run())
        begin = asyncio.get_running_loop().time()
        for _ in range(100):
            log.tree.append(b"line")
            made.observe(TICK)
            await asyncio.sleep(1)
        await asyncio.sleep(1000)
        log.tree.append(b"line")
        made.observe(TICK)
        await asyncio.sleep(7)
        log.tree.append(b"line")
        made.observe(TICK)
        log.is_counted = False
        await asyncio.sleep(70)
        log.is_counted = True
        await asyncio.sleep(1000)
        running.cancel()
        assert [(round(now - begin), size) for now, size in log.signed] == [
            (65, 65),
            (125, 100),
            (1105, 101),
            (1225, 102),
        ]

    run_virtually(story())


def test_not_what_the_disk_does_not_have() -> None:
    """Protects the verdict after a power failure: nothing is signed that was not synced. That is said once."""

    async def story() -> None:
        log = Log(OSError(errno.EIO, "Input/output error"), OSError(errno.EAGAIN, "no thread could be started"), None)
        said: list[str] = []
        made = checkpoints(log, said)
        log.tree.append(b"line")
        for _ in range(2):
            await made.sign(PATIENCE)
        assert log.signed == []
        assert said == ["the log can't be signed: Input/output error"]
        await made.sign(PATIENCE)
        log.is_counted = False
        log.tree.append(b"line")
        await made.sign(PATIENCE)
        assert [size for _, size in log.signed] == [1]

    asyncio.run(story())


def test_a_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for."""

    async def never(*_args: object, **_words: object) -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        monkeypatch.setattr(schedule, "in_daemon_thread", never)
        log, said = Log(), cast(list[str], [])
        log.tree.append(b"line")
        await checkpoints(log, said).sign(1)
        assert (log.signed, said) == ([], ["the log can't be signed: the disk is slow"])

    run_virtually(story())


def test_a_disk_that_hangs() -> None:
    """Protects the machine's threads: as long as one is stuck with the disk, no other is started."""

    async def story() -> None:
        answers, begun = threading.Event(), list[int]()

        class Hanging(Log):
            def __call__(self) -> None:
                begun.append(threading.get_ident())
                answers.wait(PATIENCE)

        log, said = Hanging(), list[str]()
        made = checkpoints(log, said)
        log.tree.append(b"line")
        for _ in range(3):
            assert not await made.sign(0.01)
        assert (len(begun), log.signed) == (1, [])
        assert said == ["the log can't be signed: the disk is slow"]
        answers.set()
        assert await made.sign(PATIENCE)
        assert (len(begun), [size for _, size in log.signed]) == (2, [1])

    asyncio.run(story())


def test_each_state_once() -> None:
    """Two that ask at once get one checkpoint, and an older one never follows a newer one."""

    async def story() -> None:
        log, signs = Log(), signer()
        made = checkpoints(log, signs=signs)
        log.tree.append(b"line")
        await asyncio.gather(made.sign(), made.sign())
        assert [size for _, size in log.signed] == [1]
        old = signs.claim(log.tree)
        assert old is None
        log.tree.append(b"line")
        old = signs.claim(log.tree)
        log.tree.append(b"line")
        await made.sign()
        assert old is not None
        assert signs.sign(old) is None
        assert Signer(None).claim(log.tree) is None

    asyncio.run(story())


@pytest.mark.parametrize("human", [False, True])
def test_where_a_checkpoint_goes(tmp_path: Path, human: bool) -> None:
    """It goes to its file, to the sinks and to standard output, also among lines for people that are collected."""
    read, write = os.pipe()
    log = AuditLog.open(tmp_path, stdout_fd=write, human=human, colour=False, on_problem=pytest.fail)
    sent = Sent()
    log.send_to(Sinks({"sent": cast(Sink, sent)}))
    signs = signer()
    log.tree.append(b"line")
    claim = signs.claim(log.tree)
    assert claim is not None
    note = signs.sign(claim)
    assert note is not None
    log.add_checkpoint(0.0, note)
    log.close(PATIENCE)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        shown = file.read()
    written = (tmp_path / CHECKPOINTS_NAME).read_bytes()
    assert json.loads(written)["note"] == note
    assert sent.lines == [written]
    assert shown == written if not human else shown.startswith(b"00:00:00Z log      checkpoint pyssh-gateway/")


def test_not_on_a_terminal(tmp_path: Path) -> None:
    """A person who watches the server is spared it."""
    master, terminal = os.openpty()
    log = AuditLog.open(tmp_path, stdout_fd=terminal, human=True, colour=False, on_problem=pytest.fail)
    log.add_checkpoint(0.0, "log\n1\nroot\n\n— log signature\n")
    log.close(PATIENCE)
    os.write(terminal, b"end\n")
    assert os.read(master, 100) == b"end\r\n"
    os.close(terminal)
    os.close(master)

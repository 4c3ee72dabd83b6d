"""monitor.lifetime.awake: since when the machine is awake, and who woke it, outlives a server process."""

from pathlib import Path

import pytest

from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.events import AnyEvent, ConnectionOpened, MachineResumed, Record
from pyssh_gateway.monitor.lifetime.awake import MAX_STATE_BYTES, Awake

NOW = 1_795_000_000.0
PEER = "2001:0db8:0000:0000:0000:ffff:198.51.100.77"


class Life:
    """Server processes with one file, and a clock that the test moves."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.now = NOW
        self.awake = self.start()

    def start(self, started: float = NOW) -> Awake:
        """Start a server process; the server itself was started at `started`."""
        self.awake = Awake(started, lambda: Clocks(self.now - NOW, self.now), self.state)
        return self.awake

    def happens(self, event: AnyEvent) -> None:
        """Report an event that happens now."""
        self.awake.observe(Record(1, self.now, event))

    @property
    def said(self) -> tuple[float, str, float]:
        """What users are told."""
        return self.awake.since, self.awake.woken_by, self.awake.seconds


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """A server that has just been started."""
    return Life(tmp_path / "awake.json")


def came() -> AnyEvent:
    """A connection from an address of the maximum length."""
    return ConnectionOpened(conn="a", peer=PEER, peer_port=1)


def test_the_next_process_knows_it(life: Life) -> None:
    """Protects `why` and the history across a crash: after a start, and after a later resume."""
    life.happens(came())
    life.now += 60
    life.start()
    assert life.said == (NOW, PEER, 60)
    life.now += 3600
    life.happens(MachineResumed(seconds=3600))
    resumed = life.now
    life.now += 5
    life.start()
    assert life.said == (resumed, "", 5)


def test_a_start_knows_nothing_of_what_was_before(life: Life) -> None:
    """Protects a start from an old file of an earlier start."""
    life.happens(came())
    life.now += 3600
    life.start(life.now)
    assert life.said == (life.now, "", 0)


def test_what_is_written_fits_into_what_is_read(life: Life) -> None:
    """Protects the file from its own limit: what is written is much smaller."""
    life.happens(came())
    assert len(life.state.read_bytes()) < MAX_STATE_BYTES / 10


def test_what_changes_nothing_is_not_written(life: Life) -> None:
    """Protects the disk and the event loop: only the first connection is written."""
    life.happens(came())
    life.state.unlink()
    life.happens(came())
    assert not life.state.exists()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"since":1}', b"\xff", b"[" * 4000, b" " * (MAX_STATE_BYTES + 1)])
def test_a_damaged_file_is_an_empty_one(life: Life, data: bytes) -> None:
    """Protects the start: a damaged file counts as empty."""
    life.state.write_bytes(data)
    life.start()
    assert life.said == (NOW, "", 0)


def test_a_disk_that_is_full_keeps_nobody_out(tmp_path: Path) -> None:
    """Protects connections from a full disk: a file that can't be written keeps nobody out."""
    life = Life(tmp_path / "no such directory" / "awake.json")
    life.happens(came())
    assert life.awake.woken_by == PEER

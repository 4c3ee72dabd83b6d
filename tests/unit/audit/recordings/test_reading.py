"""Tests of reading recordings: whole, cut, damaged, in parts, and while they are being written."""

from pathlib import Path

import pytest

from pyssh_gateway.audit.recordings import reading
from pyssh_gateway.audit.recordings.commands import commands
from pyssh_gateway.audit.recordings.files import NoRecording, accounts, parts, recordings
from pyssh_gateway.audit.recordings.outline import Place, outline
from pyssh_gateway.audit.recordings.reading import Recording, events
from pyssh_gateway.audit.zstd import ZstdCompressor
from pyssh_gateway.core.recordings.asciicast import Encoder, Event, Header
from pyssh_gateway.core.recordings.command_marks import Command

HEADER = Header(cols=80, rows=24, term="xterm", timestamp=1_800_000_000)


def packed(data: bytes) -> bytes:
    """One zstd frame."""
    compressor = ZstdCompressor()
    return compressor.compress(data) + compressor.flush()


def written(count: int, header: Header = HEADER) -> bytes:
    """A recording with that many lines of output, a second apart."""
    to = Encoder()
    return to.header(header) + b"".join(to.output(float(at), b"line %d\r\n" % at) for at in range(count))


def read(recording: Recording) -> list[Event]:
    """Everything that there is now."""
    found: list[Event] = []
    while (some := recording.read()) is not None:
        found += some
    return found


@pytest.mark.parametrize("compress", [True, False])
def test_a_recording(compress: bool, tmp_path: Path) -> None:
    """Its header and its events."""
    path = tmp_path / "c1.1.cast.zst"
    path.write_bytes(packed(written(1000)) if compress else written(1000))
    with Recording([path]) as recording:
        assert recording.header == HEADER
        found = read(recording)
    assert [event.data for event in found] == [f"line {at}\r\n" for at in range(1000)]
    assert (found[-1].at, recording.broken, recording.exited) == (999.0, 0, False)


def test_a_recording_that_was_cut(tmp_path: Path) -> None:
    """Wherever a kill has cut it, what was complete before is read, and nothing else."""
    path, compressor = tmp_path / "c1.1.cast.zst", ZstdCompressor()
    data, ends = compressor.compress(written(0)), []
    data += compressor.flush(ZstdCompressor.FLUSH_BLOCK)
    to = Encoder()
    to.header(HEADER)
    for at in range(20):
        data += compressor.compress(to.output(float(at), b"%d" % at)) + compressor.flush(ZstdCompressor.FLUSH_BLOCK)
        ends.append(len(data))
    for cut in range(ends[0], len(data)):
        path.write_bytes(data[:cut])
        assert [event.data for event in events([path])] == [str(at) for at, end in enumerate(ends) if end <= cut]


def test_damage(tmp_path: Path) -> None:
    """Damage ends a file; nothing raises, and what was flushed before it is read, but for the last kilobyte."""
    path, compressor, to = tmp_path / "c1.1.cast.zst", ZstdCompressor(), Encoder()
    data, middle = compressor.compress(to.header(HEADER)), 0
    for at in range(2000):
        middle = len(data) if at == 1000 else middle
        data += compressor.compress(to.output(at, b"%d" % at * 9)) + compressor.flush(ZstdCompressor.FLUSH_BLOCK)
    path.write_bytes(data[:middle] + bytes(byte ^ 0x55 for byte in data[middle:]))
    with Recording([path]) as recording:
        assert recording.header == HEADER
        found = [event.data for event in read(recording)]
        assert found == [f"{at}" * 9 for at in range(len(found))]
        assert 900 < len(found) <= 1000
        assert recording.broken


def test_lines_without_an_end(tmp_path: Path) -> None:
    """Protects memory: a line of any length, packed to almost nothing."""
    path = tmp_path / "c1.1.cast.zst"
    path.write_bytes(packed(written(1) + b'[0.1, "o", "' + b"x" * 20_000_000 + b'"]\n[0.5, "o", "after"]\n'))
    with Recording([path]) as recording:
        assert [event.data for event in read(recording)] == ["line 0\r\n", "after"]
        assert recording.broken


def test_parts(tmp_path: Path) -> None:
    """A recording that was interrupted goes on in the next part, at the time that its header has."""
    directory = tmp_path / "recordings" / "amos"
    directory.mkdir(parents=True)
    later = Header(cols=100, rows=30, term="xterm", timestamp=HEADER.timestamp and HEADER.timestamp + 60)
    (directory / "c1.1.cast.zst").write_bytes(packed(written(2)))
    (directory / "c1.1.2.cast.zst").write_bytes(packed(written(1, later)))
    (directory / "c1.11.cast.zst").write_bytes(packed(written(1)))
    (directory / "other").write_bytes(b"")
    (tmp_path / "recordings" / "dev").mkdir()
    (tmp_path / "recordings" / "dev" / "c1.1.cast.zst").write_bytes(packed(written(3)))  # as it may claim
    assert accounts(tmp_path, "c1.1") == {"amos", "dev"}
    there = {(one.account, one.session, one.part) for one in recordings(tmp_path)}
    assert there == {("amos", "c1.1", 1), ("amos", "c1.1", 2), ("amos", "c1.11", 1), ("dev", "c1.1", 1)}
    assert [(event.at, event.code, event.data) for event in events(parts(tmp_path, "amos", "c1.1"))] == [
        *[(0.0, "o", "line 0\r\n"), (1.0, "o", "line 1\r\n")],
        *[(60.0, "r", "100x30"), (60.0, "o", "line 0\r\n")],
    ]


def test_a_recording_that_is_being_written(tmp_path: Path) -> None:
    """What is flushed is read at once; another part is found when it comes; the end is seen."""
    directory = tmp_path / "recordings" / "amos"
    directory.mkdir(parents=True)
    first, second = directory / "c1.1.cast.zst", directory / "c1.1.2.cast.zst"
    to, compressor = Encoder(), ZstdCompressor()
    first.write_bytes(compressor.compress(to.header(HEADER)) + compressor.flush(ZstdCompressor.FLUSH_BLOCK))
    with (
        Recording([first], lambda: parts(tmp_path, "amos", "c1.1")) as recording,
        first.open("ab", buffering=0) as file,
    ):
        assert read(recording) == []
        file.write(compressor.compress(to.output(1.0, b"a")) + compressor.flush(ZstdCompressor.FLUSH_BLOCK))
        assert [event.data for event in read(recording)] == ["a"]
        assert read(recording) == []
        # A compressor that has rested was put away, and another frame begins.
        file.write(compressor.flush() + packed(to.output(2.0, b"b")))
        assert [event.data for event in read(recording)] == ["b"]
        again = Encoder()
        second.write_bytes(packed(again.header(HEADER) + again.output(1.0, b"c") + again.exit(1.0, 0)))
        assert [event.data for event in read(recording)] == ["80x24", "c", "0"]
        assert recording.exited


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "no recording"), (b"", "no header"), (b"{}\n", "no header of an asciicast"), (b"{", "no header")],
)
def test_no_recording(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    """What can't be read is said in one line."""
    path = tmp_path / "c1.1.cast.zst"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NoRecording, match=complaint), Recording([path]) as recording:
        assert recording.header


def test_other_things_in_its_place(tmp_path: Path) -> None:
    """A directory is no recording; a session that was not recorded has none."""
    with pytest.raises(NoRecording, match="not a file"):
        reading.CastFile(tmp_path)
    with pytest.raises(NoRecording, match="no recording of session"):
        parts(tmp_path, "amos", "c1.1")


def test_commands_and_places(tmp_path: Path) -> None:
    """Commands are found, and can be jumped to, like markers."""
    to = Encoder()
    data = to.header(HEADER) + to.marker(1.0, "m") + to.output(2.0, b"\x1b]133;C;cmdline_url=ls\x07")
    data += to.output(3.0, b"\x1b]133;D;0\x07") + to.output(5.0, b"x")
    path = tmp_path / "c1.1.cast.zst"
    path.write_bytes(packed(data))
    assert list(commands(path)) == [Command(2.0, "ls", 3.0, 0)]
    assert outline([path]).seconds == 5.0
    assert outline([path]).places == (Place(1.0, "m"), Place(2.0, "$ ls"))

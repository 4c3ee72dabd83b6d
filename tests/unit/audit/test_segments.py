"""The files of the log and their lines: in order, whole, and without what is no line."""

import os
from pathlib import Path

import pytest

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.header import Header
from pyssh_gateway.audit.segments import (
    LONGEST_LINE,
    Line,
    NoLog,
    Segment,
    file_lines,
    lines,
    log_lines,
    sealed_name,
    segments,
)
from pyssh_gateway.audit.zstd import ZstdFile


def pack(path: Path, data: bytes) -> None:
    """A compressed file."""
    with path.open("wb") as file, ZstdFile(file, "wb") as packed:
        packed.write(data)


def test_the_files_of_a_log_are_read_in_order(tmp_path: Path) -> None:
    """Closed files come first, by the index in their names; of two forms of one, the complete one is taken."""
    header = headers.encode(Header(4, ("A" * 43 + "=",))) + b"\n"
    pack(tmp_path / sealed_name(0, compressed=True), b"0\n1\n")
    (tmp_path / sealed_name(2, compressed=False)).write_bytes(b"2\n3\n")
    (tmp_path / sealed_name(2, compressed=True)).write_bytes(b"half")
    (tmp_path / "events.jsonl").write_bytes(header + b"4\n5")
    (tmp_path / "events.jsonl.1").write_bytes(b"somebody else's\n")
    found = segments(tmp_path)
    assert [each.first for each in found] == [0, 2, 4]
    assert [each.is_current for each in found] == [False, False, True]
    assert list(log_lines(tmp_path)) == [b"0", b"1", b"2", b"3", b"4"]
    assert list(lines(found[-1], header=True)) == [Line(-1, header[:-1]), Line(4, b"4")]


def test_a_file_that_has_just_been_compressed_is_found(tmp_path: Path) -> None:
    """Between the listing and the reading a closed file may be compressed."""
    plain = tmp_path / sealed_name(0, compressed=False)
    plain.write_bytes(b"0\n")
    (segment,) = segments(tmp_path)
    plain.unlink()
    pack(tmp_path / sealed_name(0, compressed=True), b"0\n")
    assert list(lines(segment)) == [Line(0, b"0")]


def test_a_pipe_in_its_place_is_refused(tmp_path: Path) -> None:
    """Protects from waiting for ever for a writer."""
    os.mkfifo(tmp_path / "log")
    with pytest.raises(NoLog, match="is not a file"):
        list(file_lines(tmp_path / "log"))


def test_the_lines_of_a_file(tmp_path: Path) -> None:
    """Lines come whole and in order, long ones cut off, and not one that is still being written."""
    log = tmp_path / "log"
    log.write_bytes(b"one\n\n" + b"x" * (3 * LONGEST_LINE) + b"\ntwo\nthr")
    assert list(file_lines(log)) == [b"one", b"", b"x" * LONGEST_LINE, b"two"]


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An empty directory, a missing one and a file in its place are no logs."""
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(NoLog, match=str(place)):
            segments(place)


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"log.segment","first":-1,"tree":[]}',
        b'{"event":"log.segment","tree":[],"first":1}',
        b'{"event":"log.segment", "first":1,"tree":[]}',
        b'{"event":"log.segment","first":1,"tree":["short"]}',
        b'{"event":"log.segment","first":1}',
        b'{"event":"server.started"}',
        b'{"event":"log.segment","first":1,"tree":[]',
        b"",
    ],
)
def test_what_is_no_header_is_none(line: bytes) -> None:
    """A header has one form only, so that it can't be changed without being found out."""
    assert headers.decode(line) is None


def test_a_header_is_read_as_it_is_written() -> None:
    """What is decoded is encoded to the same bytes."""
    header = Header(5, ("A" * 43 + "=", "/" * 43 + "="))
    assert headers.decode(headers.encode(header)) == header
    assert Segment(5, Path("events.jsonl")).is_compressed is False

"""The file of the last stops: records are kept up to a limit, and damage does no harm."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyssh_gateway.machine.history import FILE_NAME, KEPT, MAX_TEXT, StopRecord, append, read


def record(number: int, detail: str = "idle for 60 s") -> StopRecord:
    """A stop."""
    return StopRecord(time=1000.0 + number, since=900.0, reason="idle", detail=detail, action="exit")


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    """Protects `why`: the newest stops are kept in order, and the file does not grow for ever."""
    for number in range(KEPT + 5):
        append(tmp_path, record(number))
    assert read(tmp_path) == tuple(record(number) for number in range(5, KEPT + 5))
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    """Protects the first start: a missing file means no stops."""
    assert read(tmp_path) == ()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'[{"time": 1}]', b"\xff\xfe", b"[" * 100_000, b"[]" + b" " * 10**6]
)
def test_a_damaged_file_is_forgotten(tmp_path: Path, content: bytes) -> None:
    """Protects the stop: the next stop is written, whatever the file contains."""
    (tmp_path / FILE_NAME).write_bytes(content)
    assert read(tmp_path) == ()
    append(tmp_path, record(1))
    assert read(tmp_path) == (record(1),)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Protects other files: a link in the file's place is replaced, and its target stays unchanged."""
    other = tmp_path / "other"
    other.write_text("[]")
    (tmp_path / FILE_NAME).symlink_to(other)
    (tmp_path / f".{FILE_NAME}.tmp").symlink_to(other)
    append(tmp_path, record(1))
    assert read(tmp_path) == (record(1),)
    assert other.read_text() == "[]"


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Protects the log: if the record can't be written, the caller gets an error that it can report."""
    with pytest.raises(OSError, match="No such file"):
        append(tmp_path / "missing", record(1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=2 * MAX_TEXT))
def test_any_text_survives(tmp_path: Path, detail: str) -> None:
    """Protects against text that can't be encoded and text that is too long: it is replaced and cut."""
    for number in range(3):
        append(tmp_path, record(number, detail))
    assert read(tmp_path)[-1].detail == detail[:MAX_TEXT].encode("utf-8", "replace").decode()


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Protects the history across an update: stops that were written down without the later fields stay known."""
    old = b'[{"time":1001.0,"since":900.0,"reason":"idle","detail":"idle for 60 s","action":"exit"}]'
    (tmp_path / FILE_NAME).write_bytes(old)
    append(tmp_path, StopRecord(1002.0, 900.0, "idle", "", "exit", woken_by="203.0.113.9", for_nobody=True))
    first, second = read(tmp_path)
    assert first == record(1)
    assert (second.woken_by, second.for_nobody) == ("203.0.113.9", True)

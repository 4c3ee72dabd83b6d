"""The lines of the log over several files, starts and failures: each is there once, in order, and is counted."""

import os
from pathlib import Path

import pytest

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.header import Header
from pyssh_gateway.audit.log_file import FILE_NAME, AuditLogError, LogPlace
from pyssh_gateway.audit.resuming import Found, find
from pyssh_gateway.audit.state import LogState
from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.audit.writing import FileWriter
from pyssh_gateway.system.descriptors import close_all


class Log:
    """A log in a directory, with a writer, as one server has it."""

    def __init__(self, directory: Path, state: LogState | None = None) -> None:
        self.directory = directory
        self.path = directory / FILE_NAME
        self.place = LogPlace(directory)
        descriptor = self.place.open()
        self.found: Found = find(descriptor, state, directory)
        self.writer = FileWriter(descriptor, self.found)

    def write(self, *texts: str) -> None:
        """Write lines."""
        for text in texts:
            self.writer.write(text.encode() + b"\n", 1.0)

    @property
    def lines(self) -> list[str]:
        """The lines of the current file, with a header as its line number."""
        shown = []
        for line in self.path.read_bytes().splitlines():
            header = headers.decode(line)
            shown.append(line.decode() if header is None else f"#{header.first}")
        return shown

    def reopen(self) -> bool:
        """Open the file at its path, as the spawner does when it is asked."""
        return self.writer.change_to(self.place.open())

    def seal(self) -> None:
        """Close the file, and go on in a new one."""
        opened, *beside = self.place.seal(self.writer.first, self.writer.file.inode)
        for descriptor in beside:
            os.close(descriptor)
        self.writer.change_to(opened)

    def close(self) -> LogState:
        """End; the state for the next start."""
        state = self.writer.state(seq=0, connections=0)
        self.writer.close()
        return state


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "audit"


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "missing"])
def test_a_start_without_a_writable_file(directory: Path, is_there: bool) -> None:
    """On a read-only disk lines wait, and go to the file as soon as it can be opened, after those that it has."""
    before = Log(directory)
    before.write("0", "1")
    before.close()
    if not is_there:
        before.path.unlink()
    descriptor = before.place.open_unwritable()
    writer = FileWriter(descriptor, find(descriptor, None, directory), writable=False)
    writer.write(b"2\n", 1.0)
    assert (writer.waiting, writer.problem is None, writer.lost) == (1, False, 0)
    assert writer.change_to(before.place.open())
    writer.write(b"3\n", 1.0)
    assert (writer.waiting, writer.problem) == (0, None)
    assert before.lines == (["0", "1", "2", "3"] if is_there else ["2", "3"])
    assert writer.tree.size == len(before.lines)
    assert not writer.change_to(before.place.open())
    writer.close()


def test_a_line_that_was_cut_off_was_not_written(directory: Path) -> None:
    """The last event is that of the last whole line, but its number is not given to another one."""
    log = Log(directory)
    lines = [f'{{"ts":"2026-01-02T03:04:05.678901Z","seq":{number},"event":"idle.tick"}}' for number in (11, 12)]
    log.write(*lines)
    state = log.close()
    for cut, seq in ((lines[1][:-1], 12), (lines[1][:30], 11)):
        log.path.write_text(f"{lines[0]}\n{cut}")
        found = Log(directory).found
        assert (found.seq, found.written) == (seq, 11)
    log.path.write_text("\n".join(lines) + "\n")
    assert Log(directory, state).found.written == 0  # the state's number, which this test has not counted
    assert Log(directory).found.written == 12


def test_what_is_no_file_is_not_read(directory: Path, tmp_path: Path) -> None:
    """A link in the place of the file is no more followed for reading than for writing."""
    directory.mkdir()
    (tmp_path / "elsewhere").write_text("0\n")
    (directory / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    descriptor = LogPlace(directory).open_unwritable()
    assert os.read(descriptor, 10) == b""
    os.close(descriptor)
    (directory / FILE_NAME).unlink()
    (directory / FILE_NAME).mkdir()
    with pytest.raises(AuditLogError, match="not a plain file"):
        LogPlace(directory).open_unwritable()


def test_each_file_begins_with_the_index_of_its_first_line(directory: Path) -> None:
    """Lines are counted over all files; headers are not lines."""
    log = Log(directory)
    log.write("0", "1")
    log.seal()
    assert log.lines == ["#2"]
    log.write("2")
    log.seal()
    log.write("3", "4")
    assert log.lines == ["#3", "3", "4"]
    assert log.writer.tree.size == 5
    assert sorted(path.name for path in directory.iterdir() if path.name.startswith("events-")) == [
        "events-000000000000.jsonl",
        "events-000000000002.jsonl",
    ]
    log.close()


def test_a_file_is_not_sealed_in_the_place_of_another_one(directory: Path) -> None:
    """A monitor that was taken over can't replace closed files, nor close a file that is not the one it writes to."""
    log = Log(directory)
    log.write("0")
    log.seal()
    log.write("1")
    for first in (0, 1):
        if first == 1:
            log.seal()
        with pytest.raises(OSError, match=f"begins at line {first} or later"):
            log.place.seal(first, log.path.stat().st_ino)
    opened = log.place.seal(9, log.path.stat().st_ino + 1)
    assert os.path.samestat(os.fstat(opened[0]), log.path.stat())
    close_all(opened)
    log.close()


@pytest.mark.parametrize("lost", [False, True], ids=["state", "without state"])
def test_a_start_goes_on_with_the_count(directory: Path, lost: bool) -> None:
    """A start takes the count from the state, or without it from the file, which it reads bit by bit."""
    log = Log(directory)
    log.write("0", "1")
    log.seal()
    log.write("2", "3")
    state = log.close()
    again = Log(directory, None if lost else state)
    assert again.writer.is_counted is not lost
    again.write("4")
    assert again.writer.catch_up()
    assert (again.writer.first, again.writer.tree.size, again.writer.is_counted) == (2, 5, True)
    again.seal()
    assert again.lines == ["#5"]
    again.close()


def test_lines_after_the_state_are_counted(directory: Path) -> None:
    """A server that was killed has written lines since its last state, and perhaps part of one, which is one, too."""
    log = Log(directory)
    log.write("0")
    state = log.writer.state(seq=1, connections=1)
    log.write('{"ts":"2026-01-02T03:04:05.000000Z","seq":7,"event":"connection.opened","conn":"c3"}', "2", '{"ts"')
    log.close()
    os.truncate(log.path, log.path.stat().st_size - 1)
    again = Log(directory, state)
    assert (again.found.seq, again.found.connections, again.found.covered) == (7, 3, 2)
    again.write("4")
    assert again.lines[2:] == ["2", '{"ts"', "4"]
    assert (again.writer.tree.size, again.writer.is_counted) == (5, True)
    again.close()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_start_after_a_crash_between_two_files(directory: Path, compressed: bool) -> None:
    """The server died when the file had its final name, and the new one no line: the closed one is read."""
    log = Log(directory)
    log.write("0")
    log.seal()
    state = log.writer.state(seq=1, connections=1)
    log.write('{"ts":"2026-01-02T03:04:05.000000Z","seq":7,"event":"connection.opened","conn":"c3"}', "2")
    first, inode = log.writer.first, log.writer.file.inode
    log.close()
    close_all(log.place.seal(first, inode))
    if compressed:
        from pyssh_gateway.audit.sealing import compress

        source = os.open(directory / "events-000000000001.jsonl", os.O_RDONLY)
        target = os.open(directory / "events-000000000001.jsonl.zst", os.O_WRONLY | os.O_CREAT)
        compress(source, target)
        os.close(source)
        os.close(target)
        (directory / "events-000000000001.jsonl").unlink()
    again = Log(directory, state)
    assert (again.found.seq, again.found.connections, again.writer.tree.size) == (7, 3, 3)
    again.write("3")
    assert again.lines == ["#3", "3"]
    again.close()


def test_a_start_after_a_crash_before_the_first_line(directory: Path) -> None:
    """The server died when the new file had its header only: the numbers are in the closed file."""
    log = Log(directory)
    state = log.writer.state(seq=0, connections=0)
    log.write('{"ts":"2026-01-02T03:04:05.000000Z","seq":7,"event":"connection.opened","conn":"c3"}')
    log.seal()
    log.close()
    again = Log(directory, state)
    assert (again.found.seq, again.found.connections >= 3, again.writer.tree.size) == (7, True, 1)
    again.close()


def test_a_header_that_was_cut_off_is_written_again(directory: Path) -> None:
    """The power went off while a header was written: the file is as good as empty."""
    directory.mkdir()
    (directory / FILE_NAME).write_bytes(headers.encode(Header(5, ()))[:-3])
    log = Log(directory, LogState(lines=5, tree=("A" * 43 + "=",) * 2, first=1))
    log.write("5")
    assert log.lines == ["#5", "5"]
    log.close()


@pytest.mark.parametrize("state", [LogState(9, (), 4, check=1), LogState(9, (), 400), LogState(9, (), 4, first=3)])
def test_the_state_of_another_log_is_not_believed(directory: Path, state: LogState) -> None:
    """If the state does not belong to the file, the file is read instead."""
    log = Log(directory)
    log.write("0", "1")
    log.close()
    again = Log(directory, state)
    assert again.writer.catch_up()
    assert again.writer.tree.size == 2
    again.close()


def test_an_old_log_counts_from_its_beginning(directory: Path) -> None:
    """Files of servers that knew no headers begin at line 0, and their last number goes on; names were others."""
    directory.mkdir()
    line = '{{"ts":"2026-01-02T03:04:05.000000Z","seq":{},"event":"connection.opened","conn":"c123456789"}}\n'
    numbers = [1, 2, 3, 1, 2]
    (directory / FILE_NAME).write_text("".join(map(line.format, numbers)))
    log = Log(directory)
    assert (log.found.seq, log.found.connections, log.found.first) == (2, 0, 0)
    assert log.found.began == 1767323045.0
    assert log.writer.catch_up()
    assert log.writer.tree.size == len(numbers)
    log.close()


# -- files that others move, empty or delete --------------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [False, True])
def test_what_was_written_to_a_deleted_file_is_written_again(directory: Path, deleted: bool) -> None:
    """Lines since the last look are in the new file with their indexes; a file that was moved keeps its lines."""
    log = Log(directory)
    log.write("0", "1")
    assert log.writer.is_in_place()
    log.path.unlink() if deleted else log.path.rename(directory / "moved")
    log.write("2", "3")
    assert not log.writer.is_in_place()
    assert log.reopen()
    log.write("4")
    assert log.lines == (["#2", "2", "3", "4"] if deleted else ["#4", "4"])
    assert log.writer.tree.size == 5
    assert not log.reopen()
    log.close()


def test_many_lines_of_a_deleted_file(directory: Path) -> None:
    """They are copied in blocks, whose borders are not those of lines."""
    log = Log(directory)
    log.path.unlink()
    texts = [f"{number}" + "x" * 1000 for number in range(1000)]
    log.write(*texts)
    assert log.reopen()
    assert log.lines == texts
    assert (log.writer.tree.size, log.writer.is_counted) == (1000, True)
    log.close()


def test_a_deleted_file_of_many_days_is_cut(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was written while no file could be made, the last part is kept, with the index that it has."""
    monkeypatch.setattr("pyssh_gateway.audit.writing.MAX_RESCUED_BYTES", 1000)
    monkeypatch.setattr("pyssh_gateway.audit.writing.CATCH_UP_BYTES", 100)
    log = Log(directory)
    log.path.unlink()
    log.write(*(f"{number:04}" for number in range(1000)))
    assert log.reopen()
    header, first, *_ = log.lines
    assert header == f"#{int(first)}"
    assert 190 < log.writer.tree.size - int(first) <= 200
    assert log.lines[-1] == "0999"
    log.close()


def test_emptied_file_begins_with_a_header(directory: Path) -> None:
    """After logrotate's `copytruncate` the same file begins in the middle of the log."""
    log = Log(directory)
    log.write("0", "1")
    os.truncate(log.path, 0)
    log.write("2")
    assert log.lines == ["#2", "2"]
    log.path.unlink()
    log.write("3")
    assert log.reopen()
    assert log.lines == ["#2", "2", "3"]
    log.close()


# -- a disk that takes nothing ----------------------------------------------------------------------------------------


def test_lines_that_wait_go_to_the_new_file(directory: Path, tmp_path: Path) -> None:
    """Lines that the old disk did not take are the first ones in the new file."""
    log = Log(directory)
    log.write("0")
    full = os.open("/dev/full", os.O_WRONLY)
    writable = os.dup(log.writer.file.descriptor)
    os.dup2(full, log.writer.file.descriptor)
    log.write("1", "2")
    assert log.writer.problem is not None
    assert (log.writer.waiting, log.writer.tree.size) == (2, 1)
    os.dup2(writable, log.writer.file.descriptor)
    log.path.rename(tmp_path / "moved")
    assert log.reopen()
    assert log.lines == ["#1", "1", "2"]
    assert log.writer.waiting == 0
    os.close(full)
    os.close(writable)
    log.close()


def test_the_tree_of_a_new_log_is_empty() -> None:
    """Nothing comes before the first line."""
    assert (Tree().size, Tree().range()) == (0, ())

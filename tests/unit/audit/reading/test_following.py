"""audit.reading.following: every line once and in order, whatever happens to the files meanwhile."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pyssh_gateway.audit.log_file import FILE_NAME
from pyssh_gateway.audit.reading.following import Follower
from tests.support.made_logs import write_log

LINES = [b'{"n":%d}\n' % number for number in range(1000)]


def follow(directory: Path, steps: Sequence[Callable[[], object]], after: int = -1) -> list[bytes]:
    """The lines that are seen while the steps are done, each when there is nothing more to read."""
    left = iter(steps)

    def wait(_: float) -> bool:
        step = next(left, None)
        if step is not None:
            step()
        return step is not None

    return [line.data + b"\n" for line in Follower(directory, after, wait).lines() if line is not None]


def append(directory: Path, *lines: bytes) -> None:
    """What the server does."""
    with (directory / FILE_NAME).open("ab") as file:
        file.write(b"".join(lines))


def rewrite(directory: Path, end: int, *cuts: int, deleted: int = 0) -> None:
    """Put the files in place that the log has after so many lines: under new names, as when the server seals one."""
    made = directory / "made"
    made.mkdir(exist_ok=True)
    write_log(made, LINES[:end], cuts, deleted=deleted)
    for old in directory.glob("events*"):
        if not (made / old.name).exists():
            old.unlink()
    for new in sorted(made.iterdir()):
        new.replace(directory / new.name)


def test_what_is_appended_is_seen_once_it_is_whole(tmp_path: Path) -> None:
    """Also a line that arrives in pieces; what was there before is not repeated."""
    write_log(tmp_path, LINES[:5])
    steps = [
        lambda: append(tmp_path, LINES[5], LINES[6][:3]),
        lambda: append(tmp_path, LINES[6][3:], LINES[7]),
        lambda: None,
    ]
    assert follow(tmp_path, steps, after=4) == LINES[5:8]


def test_it_goes_on_over_sealed_files(tmp_path: Path) -> None:
    """The file is sealed between two looks, twice even, and what it had meanwhile is seen."""
    write_log(tmp_path, LINES[:5])
    steps = [
        lambda: rewrite(tmp_path, 20, 10),
        lambda: rewrite(tmp_path, 60, 10, 30, 40, 55),
        lambda: append(tmp_path, LINES[60]),
        lambda: rewrite(tmp_path, 80, 10, 30, 40, 55, 70, deleted=3),
    ]
    assert follow(tmp_path, steps, after=4) == LINES[5:80]


def test_it_goes_on_in_a_file_that_was_made_again(tmp_path: Path) -> None:
    """A log that was taken away begins anew; lines that the server has copied to it are not seen twice."""
    write_log(tmp_path, LINES[:5])
    steps = [
        lambda: append(tmp_path, *LINES[5:8]),
        (tmp_path / FILE_NAME).unlink,
        lambda: append(tmp_path, *LINES[6:12]),
        lambda: None,
    ]
    assert follow(tmp_path, steps, after=4) == LINES[5:12]


def test_a_file_that_was_emptied_is_read_from_its_beginning(tmp_path: Path) -> None:
    """As after logrotate's copytruncate."""
    write_log(tmp_path, LINES[:50])
    steps = [
        lambda: (tmp_path / FILE_NAME).write_bytes(b""),
        lambda: append(tmp_path, *LINES[50:53]),
    ]
    assert follow(tmp_path, steps, after=49) == LINES[50:53]

"""What a verification says: how far the log is proved, and about logs that are rewritten, cut, old or not theirs."""

import errno
import io
from pathlib import Path

import pytest

from pyssh_gateway.audit.log_file import FILE_NAME
from pyssh_gateway.audit.proving import verification
from pyssh_gateway.audit.proving.checkpoints import Judged, given_notes, judge, local_notes
from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME
from pyssh_gateway.audit.proving.tracing import LineReader
from pyssh_gateway.audit.segments import NoLog, segments
from tests.support.signed_log import SignedLog, checkpoint_line, notes, packed


@pytest.fixture
def log(tmp_path: Path) -> SignedLog:
    """Three files with three checkpoints each, two lines after the last of them."""
    log = SignedLog(tmp_path / "log")
    for number in range(3):
        if number:
            log.write(2)
            log.rotate(compressed=number == 1)
        for _ in range(3):
            log.write(10)
            log.sign()
    log.write(2)
    return log


def judged(log: SignedLog, collected: list[bytes] | None = None, *, sole: bool = False) -> Judged:
    """The checkpoints beside the log, and collected ones."""
    return judge([*local_notes(log.directory), *given_notes("collected", collected or [])], [log.key], sole=sole)


def kinds(log: SignedLog, collected: list[bytes] | None = None) -> list[str]:
    """The kinds of what is wrong."""
    return [finding.kind for finding in verification.verify(log.directory, judged(log, collected)).findings]


def test_an_intact_log(log: SignedLog) -> None:
    """Everything up to the last checkpoint is proved, and the last line of that is shown."""
    verdict = verification.verify(log.directory, judged(log, log.collected))
    assert verdict.intact
    assert (verdict.first, verdict.end, verdict.proved, verdict.uncovered) == (0, 96, 94, 2)
    assert verdict.last is not None
    assert (verdict.last.index, verdict.last.seq, verdict.last.file) == (93, 94, FILE_NAME)
    assert (verdict.checked, verdict.older, verdict.files) == (18, 0, 3)


def test_lines_after_the_last_checkpoint(log: SignedLog) -> None:
    """They may be anything, and are counted."""
    with (log.directory / FILE_NAME).open("ab") as file:
        file.write(b"forged\nand torn")
    verdict = verification.verify(log.directory, judged(log))
    assert (verdict.intact, verdict.uncovered, verdict.torn) == (True, 3, (FILE_NAME,))


def test_old_files_may_be_deleted(log: SignedLog) -> None:
    """The other files prove themselves; checkpoints about what is gone are only counted."""
    for path in log.files()[:-1]:
        path.unlink()
        verdict = verification.verify(log.directory, judged(log, log.collected))
        assert verdict.intact
        assert verdict.proved == 94
    assert (verdict.first, verdict.older) == (64, 2 * 6)


def test_checkpoints_of_nothing_that_is_left(log: SignedLog) -> None:
    """Protects against a first header that was made up: a collected checkpoint has to cover a line that is there."""
    for path in log.files()[:2]:
        path.unlink()
    old, newer = log.collected[5:7]  # of 62 lines, all of which are gone, and of 74
    (finding,) = verification.verify(log.directory, judged(log, [old])).findings
    assert (finding.kind, finding.first, finding.end) == ("gone", 0, 64)
    assert "the checkpoint of 62 lines (collected, line 1) covers, the newest of those that were given" in finding.text
    assert kinds(log, [old, newer]) == []
    log.files()[0].write_bytes(log.files()[0].read_bytes().partition(b"\n")[0] + b"\n")
    for path in log.directory.glob("checkpoints*"):
        path.unlink()
    assert kinds(log) == ["gone"]
    assert kinds(log, [old]) == ["gone"]
    assert kinds(log, [newer]) == ["cut"]


def test_checkpoints_beside_the_log_that_were_signed_late(log: SignedLog) -> None:
    """Protects against false alarms: a new server signs the same again, and an old one may sign less after it."""
    log.sign()
    log.sign()
    with (log.directory / CHECKPOINTS_NAME).open("ab") as file:
        file.write(checkpoint_line(notes(log.collected)[-3], 1000))
    assert kinds(log) == []
    with (log.directory / CHECKPOINTS_NAME).open("ab") as file:
        file.write(log.collected[-1])
    assert kinds(log) == ["checkpoint"]


def test_a_log_that_was_rewritten_and_signed_again(log: SignedLog, tmp_path: Path) -> None:
    """Somebody who has the key can't hide it from somebody who has kept checkpoints."""
    forged = SignedLog(tmp_path / "forged")
    forged.write(5)
    forged.tree.append(b"forged")
    with (forged.directory / FILE_NAME).open("ab") as file:
        file.write(b"forged\n")
    forged.write(100)
    forged.sign()
    assert kinds(forged) == []
    assert set(kinds(forged, log.collected)) == {"rewritten"}


def test_two_histories(log: SignedLog, tmp_path: Path) -> None:
    """Two checkpoints of as many lines that differ are never both right."""
    other = SignedLog(tmp_path / "other")
    other.tree.append(b"other")
    other.write(9)
    other.sign()
    assert kinds(log, other.collected) == ["rewritten"]


def test_a_log_that_has_begun_anew(log: SignedLog, tmp_path: Path) -> None:
    """Protects against the deletion of everything: the new log is too short for the checkpoints that were kept."""
    new = SignedLog(tmp_path / "new")
    new.write(3)
    new.sign()
    assert kinds(new, log.collected) == ["cut"]


def test_checkpoints_of_other_logs(log: SignedLog, tmp_path: Path) -> None:
    """They count as wrong, unless the key was named that is to count: a collector may have those of many machines."""
    other = SignedLog(tmp_path / "other", seed=2)
    other.write()
    other.sign()
    assert kinds(log, other.collected) == ["other_log"]
    verdict = verification.verify(log.directory, judged(log, other.collected, sole=True))
    assert (verdict.intact, verdict.others) == (True, 1)
    claimed = other.collected[0].replace(other.key.name.encode(), log.key.name.encode())
    assert [one.kind for one in judged(log, [claimed], sole=True).findings] == ["other_log"]


def test_without_checkpoints(log: SignedLog) -> None:
    """A log without any is not proved; one without lines is intact."""
    for path in log.directory.glob("checkpoints*"):
        path.unlink()
    assert kinds(log) == ["no_checkpoint"]
    for path in log.files():
        path.unlink()
    (log.directory / FILE_NAME).touch()
    assert kinds(log) == []


def test_many_wrong_headers(tmp_path: Path) -> None:
    """A log whose headers are all wrong does not take much longer than others, and is never intact."""
    log = SignedLog(tmp_path / "log")
    for _ in range(9):
        log.write(3)
        log.sign()
        log.rotate(compressed=False)
    log.write()
    log.sign()
    for path in log.files()[1:]:
        path.write_bytes(path.read_bytes().replace(b'"tree":["', b'"tree":["A', 1).replace(b'="', b'"', 1))
    assert "header" in kinds(log)
    for path in log.files()[1::2]:
        path.unlink()
    assert "header" in kinds(log)


def test_a_header_that_does_not_belong(log: SignedLog) -> None:
    """The first file of a log has none."""
    first = log.files()[0]
    first.write_bytes(packed(b'{"event":"log.segment","first":0,"tree":[]}\n') + first.read_bytes())
    assert kinds(log) == ["header"]


def test_the_beginning_is_unknown(log: SignedLog) -> None:
    """If the first file that is left has no header, nothing in it can be proved."""
    log.files()[0].unlink()
    second = log.files()[0]
    second.write_bytes(second.read_bytes().partition(b"\n")[2])
    assert kinds(log) == ["header"]
    for path in log.files()[1:]:
        path.unlink()
    assert kinds(log) == ["header", "header"]


def test_a_file_that_changes_hands_meanwhile(log: SignedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against false alarms: the server closes a file while the log is read, and it is read again."""
    listed = segments(log.directory)
    log.sign()
    before = judged(log)
    log.write(1)
    log.rotate()
    answers = [listed]
    monkeypatch.setattr(verification, "segments", lambda path: answers.pop() if answers else segments(path))
    assert verification.verify(log.directory, before).intact


def test_a_file_that_cannot_be_read(log: SignedLog) -> None:
    """It is an error, not a verdict."""
    log.files()[1].unlink()
    log.files()[0].with_name("events-000000000032.jsonl").mkdir()
    with pytest.raises(NoLog):
        verification.verify(log.directory, judged(log))


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the memory: a file without newlines is not read to its end."""
    monkeypatch.setattr("pyssh_gateway.audit.proving.tracing.MAX_LINE_BYTES", 1000)
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with (tmp_path / "file").open("rb") as file:
        reader = LineReader(file)
        assert list(reader) == []
    assert "more than 1000 bytes" in reader.damage


def test_an_error_of_the_disk() -> None:
    """It is said, and what was read before counts."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if data := super().read(size):
                return data
            raise OSError(errno.EIO, "Input/output error")

    reader = LineReader(Failing(b"a\nb\n"))
    assert list(reader) == [[b"a", b"b"]]
    assert reader.damage == "it can't be read to its end: Input/output error"


def test_a_checkpoint_that_is_being_written(log: SignedLog) -> None:
    """The beginning of a line is none yet."""
    with (log.directory / CHECKPOINTS_NAME).open("ab") as file:
        file.write(log.collected[0][:50])
    assert kinds(log) == []

"""audit.room: what `check` and `doctor` say of the log's disk. tests/clients/test_log_disk.py has full ones."""

from pathlib import Path

from pyssh_gateway.audit.room import what_follows, why_not


def test_a_disk_with_room(tmp_path: Path) -> None:
    """Protects people from false alarms: a directory that is still to be made, on a disk with room, is fine."""
    assert why_not(tmp_path / "not" / "yet") is None


def test_a_disk_that_takes_nothing() -> None:
    """A read-only file system is named, by the directory that is there."""
    places = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if _is_read_only(line)]
    for place in places[:1]:
        assert why_not(place / "audit") == f"{place} is read-only"


def _is_read_only(line: str) -> bool:
    _, place, _, options, *_ = line.split()
    return "ro" in options.split(",") and "\\" not in place and Path(place).is_dir()


def test_what_that_means() -> None:
    """Protects the owner's decision: the text says which rule is in force."""
    assert "nobody gets in" in what_follows(required=True)
    assert "nobody is kept out" in what_follows(required=False)

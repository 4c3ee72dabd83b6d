"""The resources that the machine has left, and how they are reported."""

import os
import resource
from pathlib import Path

import pytest

from pyssh_gateway.cli.doctor.finding import Finding, Level
from pyssh_gateway.cli.doctor.resources import look_at_resources

CAPABILITIES = 0x1FFFFFFFFFF


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with plenty of everything, without a container's limits."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    capable(tmp_path, CAPABILITIES)
    return tmp_path


def capable(machine: Path, capabilities: int) -> None:
    """Give root these capabilities on that machine."""
    (machine / "proc" / "self" / "status").write_text(f"Name:\tx\nCapEff:\t{capabilities:016x}\n")


def bound(machine: Path, **values: object) -> None:
    """Put the machine into a container with these limits: `memory_max=...`."""
    for name, value in values.items():
        (machine / "sys" / "fs" / "cgroup" / name.replace("_", ".")).write_text(f"{value}\n")


def wrong(machine: Path) -> list[Finding]:
    """The findings that need action."""
    found = [each for each in look_at_resources(machine) if each.level not in {Level.OK, Level.NOTE}]
    assert all(each.hint for each in found)
    return found


def test_a_machine_with_plenty_is_fine(machine: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A machine with plenty needs no action, also when /proc and /sys are empty."""
    assert wrong(machine) == []
    bound(machine, memory_max="max", memory_current=5, pids_max="max", pids_current=5)
    assert wrong(machine) == []
    assert wrong(tmp_path_factory.mktemp("nothing")) == []


def test_little_memory_is_seen_in_a_machine_and_in_a_container(machine: Path) -> None:
    """The free memory is the smaller of the machine's and of what the container's limit leaves."""
    bound(machine, memory_max=512 * 2**20, memory_current=500 * 2**20)
    (found,) = wrong(machine)
    assert found.text == "12.0 MiB of memory are free"
    (machine / "proc" / "meminfo").write_text("MemAvailable: 1024 kB\n")
    (found,) = wrong(machine)
    assert found.text == "1.0 MiB of memory are free"


def test_few_processes_are_seen(machine: Path) -> None:
    """A container's limit on processes is reported, since it would keep shells from starting."""
    bound(machine, pids_max=100, pids_current=90)
    (found,) = wrong(machine)
    assert found.text == "10 more processes can be started here"


def test_few_descriptors_and_no_terminal_are_seen(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few descriptors or terminals are reported before they keep a user's shell from starting."""

    def none() -> tuple[int, int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 256))
    monkeypatch.setattr(os, "openpty", none)
    few, no_terminal = wrong(machine)
    assert few.text.startswith("a process may have 256 descriptors")
    assert (no_terminal.level, no_terminal.text) == (
        Level.PROBLEM,
        "no terminal can be opened: No space left on device",
    )


def test_what_root_may_not_do_in_a_container_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each missing capability is reported with its own effect and the container's option for it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    capable(machine, CAPABILITIES & ~(1 << 18) & ~(1 << 7))
    assert [each.text.split()[3] for each in wrong(machine)] == ["CAP_SETUID", "CAP_SYS_CHROOT"]
    capable(machine, CAPABILITIES & ~(1 << 24))
    assert wrong(machine) == []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    capable(machine, 0)
    assert wrong(machine) == []

"""The findings from systemctl's answers."""

from pathlib import Path

import pytest

from pyssh_gateway.cli.doctor import systemd
from pyssh_gateway.cli.doctor.finding import Finding, Level
from pyssh_gateway.cli.doctor.systemd import CannotAsk, Units, ask_systemd, look_at_systemd, parse_units

UNITS = """\
Result=success
Id=pyssh-gateway.socket
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no

Result=success
Id=pyssh-gateway.service
LoadState=loaded
ActiveState=inactive
UnitFileState=static
NeedDaemonReload=no
"""


def look(text: str) -> list[Finding]:
    """The findings from this answer; each that needs action must say what to do."""
    found = list(look_at_systemd(lambda: parse_units(text)))
    assert all(each.hint for each in found if each.level is not Level.OK)
    return found


def test_a_socket_that_waits_is_fine() -> None:
    """With an active socket, a service that is off is fine: it starts when a client connects."""
    (found,) = look(UNITS)
    assert (found.level, found.text) == (Level.OK, "pyssh-gateway.socket active")


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        (("ActiveState=active", "ActiveState=inactive"), Level.PROBLEM, "neither unit is active: nobody can connect"),
        (("UnitFileState=enabled", "UnitFileState=disabled"), Level.WARNING, "nothing starts the server when"),
        (("NeedDaemonReload=no", "NeedDaemonReload=yes"), Level.WARNING, "has changed on the disk"),
        (("ActiveState=active", "ActiveState=failed"), Level.PROBLEM, "pyssh-gateway.socket has failed (success)"),
        (("LoadState=loaded", "LoadState=not-found"), Level.NOTE, "it runs here, and has no unit of the server's"),
    ],
)
def test_what_keeps_it_from_starting_is_found(change: tuple[str, str], level: Level, text: str) -> None:
    """Each state is found in which nobody listens, now or after the next boot, or in which the old port is in use."""
    changed = UNITS.replace("UnitFileState=static", "UnitFileState=disabled").replace(*change)
    assert [each for each in look(changed) if each.level is level and text in each.text]


def test_a_machine_without_systemd_is_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without systemd, such as a container, is fine."""
    monkeypatch.setattr(systemd, "RUNS", tmp_path / "none")
    (found,) = look_at_systemd()
    assert found.level is Level.OK


@pytest.mark.parametrize(
    ("program", "why"),
    [("echo no bus >&2; exit 1", "no bus"), ("exit 4", "exit code 4"), (None, "No such file or directory")],
)
def test_a_systemctl_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str | None, why: str
) -> None:
    """When systemctl cannot be asked, the finding is unknown, and not that all is well."""
    if program is not None:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setattr(systemd, "RUNS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotAsk, match=why):
        ask_systemd()
    (found,) = look_at_systemd()
    assert found.level is Level.UNKNOWN


def test_systemctl_is_asked_for_both_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The output of a program, as systemctl prints it, is read for both units."""
    (tmp_path / "answer").write_text(UNITS)
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\nwhile read -r line; do echo "$line"; done <{tmp_path}/answer\n')
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setattr(systemd, "RUNS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    units: Units | None = ask_systemd()
    assert units is not None
    assert set(units) == {"pyssh-gateway.socket", "pyssh-gateway.service"}

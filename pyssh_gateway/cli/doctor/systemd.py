"""The server's systemd units: the socket and the service, and whether both are as their files say."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pyssh_gateway.cli.doctor.finding import Finding, note, ok, problem, unknown, warning

TOPIC = "systemd"

SERVICE = "pyssh-gateway.service"
SOCKET = "pyssh-gateway.socket"

RUNS = Path("/run/systemd/system")
"""A directory that exists only if systemd is the service manager (sd_booted(3))."""

ASK_SECONDS = 10.0
"""systemctl answers within milliseconds, unless the machine is starting or out of memory."""

INSTALL = "docs/platforms.md has the units and how to install them"

Units = Mapping[str, Mapping[str, str]]
"""The properties of each unit (systemctl(1), show)."""

_PROPERTIES = ("Id", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "Result")


class CannotAsk(Exception):
    """systemctl did not answer; the text says why."""


def ask_systemd() -> Units | None:
    """The properties of our units; None where systemd does not run. Raises CannotAsk."""
    if not RUNS.is_dir():
        return None
    command = ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", SOCKET, SERVICE]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise CannotAsk(error.stderr.strip() or f"exit code {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise CannotAsk(f"no answer within {ASK_SECONDS:.0f} s") from None
    except OSError as error:
        raise CannotAsk(error.strerror or str(error)) from None
    return parse_units(answer.stdout)


def parse_units(text: str) -> Units:
    """Parse the output of `systemctl show`: a block of `Name=value` for each unit, with an empty line between them."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def look_at_systemd(ask: Callable[[], Units | None] = ask_systemd) -> Iterator[Finding]:
    """A finding for each unit that exists."""
    try:
        units = ask()
    except CannotAsk as error:
        yield unknown(TOPIC, f"systemctl can't be asked: {error}", "see systemctl status pyssh-gateway.socket")
        return
    if units is None:
        yield ok(TOPIC, "it is not what starts programs here")
        return
    there = {name: unit for name, unit in units.items() if unit.get("LoadState") == "loaded"}
    if not there:
        yield note(TOPIC, "it runs here, and has no unit of the server's", INSTALL)
        return
    for name, unit in there.items():
        if unit.get("NeedDaemonReload") == "yes":
            text = f"{name} has changed on the disk, and systemd has not read it again"
            yield warning(TOPIC, text, "systemctl daemon-reload; docs/platforms.md has what else a new port takes")
    yield from _units(there)


def _units(there: Units) -> Iterator[Finding]:
    socket, service = there.get(SOCKET), there.get(SERVICE)
    failed = False
    for name, unit in there.items():
        if unit.get("ActiveState") == "failed":
            failed = True
            text = f"{name} has failed ({unit.get('Result', 'no reason is known')})"
            yield problem(TOPIC, text, f"journalctl -u {name} -n 30 says why; then systemctl restart {SOCKET}")
    is_up = any(unit.get("ActiveState") == "active" for unit in there.values())
    if not is_up and not failed:
        starts = SOCKET if socket is not None else SERVICE
        yield problem(TOPIC, "neither unit is active: nobody can connect", f"systemctl enable --now {starts}")
    elif is_up:
        active = [name for name, unit in there.items() if unit.get("ActiveState") == "active"]
        yield ok(TOPIC, f"{' and '.join(active)} active")
    enabled = {unit.get("UnitFileState") for unit in (socket, service) if unit is not None}
    if is_up and not enabled & {"enabled", "static", "enabled-runtime"}:
        starts = SOCKET if socket is not None else SERVICE
        yield warning(TOPIC, "nothing starts the server when the machine starts", f"systemctl enable {starts}")

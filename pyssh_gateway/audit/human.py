"""Events as lines for a person who watches a terminal: the time, a short name, then the most important facts.

Takes records whose text is already printable (see `printable`) and adds nothing to it but colours. The JSON lines
are the record; these leave things out and may change at any time.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

from pyssh_gateway import events as ev
from pyssh_gateway.events.machine import StayEvent

# Five terminal lines. The log file has the rest of a longer command.
MAX_LINE = 400
# Refused key lines that are quoted; the log file has them all.
SHOWN_REFUSALS = 3
# The longest of the short names below has eight letters.
NAME_WIDTH = 9
# An error's traceback stands under its line, each line behind a bar, so that none of it looks like a line of the log.
TRACEBACK_BAR = "          | "

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"


FORWARDS = frozenset(
    {
        *("direct-tcpip", "direct-streamlocal", "forwarded-tcpip", "forwarded-streamlocal", "x11", "auth-agent"),
        *("tcpip-forward", "streamlocal-forward"),
    }
)
"""Requests for a forwarded connection, or for a listener that accepts such connections."""

UpkeepEvent = ev.ConfigReloaded | ev.ConfigRejected | ev.AuditReopened | ev.AuditLost | ev.AuditLimited
"""Events about changes to the running server."""

MachineEvent = ev.MachineResumed | ev.StopStep | ev.BootStep | ev.ServiceStarted | ev.ServiceEnded | ev.ServiceOutput
"""Events about what is done to the machine."""


class Tone(StrEnum):
    """How a line's name is coloured: the SGR sequence (ECMA-48 section 8.3.117) that switches it on."""

    GOOD = "\x1b[32m"
    BAD = "\x1b[31m"
    WATCH = "\x1b[33m"
    PLAIN = "\x1b[36m"
    QUIET = _DIM


def human_line(record: ev.Record, *, colour: bool) -> str:
    """The line for `record`, without its newline; several lines for an error of ours."""
    name, tone, text = _describe(record.event)
    shown = _line(record.time, name, tone, text, colour=colour)
    if isinstance(record.event, ev.InternalError):
        return "\n".join([shown, *(TRACEBACK_BAR + each for each in record.event.error.strip("\n").split("\n"))])
    return shown


def login_line(
    time: float, login: ev.ConnectionAuthenticated, session: ev.SessionOpened, *, proxy: str, colour: bool
) -> str:
    """The line for a login and the first session on it."""
    came = _broken_glass(login) + _join(f"{login.user} from {login.peer}", proxy and f"through {proxy}", sep=" ")
    runs = _join(_runs(session), session.session, f"pid {session.pid}")
    text = f"{came} with {_key(login)}: {runs}; {login.client}, {login.cipher}, in {_duration(login.seconds)}"
    return _line(time, "login", Tone.BAD if login.break_glass else Tone.GOOD, text, colour=colour)


def logout_line(time: float, session: ev.SessionClosed, closed: ev.ConnectionClosed, *, colour: bool) -> str:
    """The line for the end of a session and of its connection, which had no other."""
    what = f"{closed.user} from {closed.peer}, {session.session} {_outcome(session)} after {_duration(closed.seconds)}"
    why = _join(session.reason, closed.reason)
    traffic = _traffic(closed.bytes_in, closed.bytes_out)
    return _line(time, "logout", Tone.QUIET, f"{_join(what, why, sep=': ')}; {traffic}", colour=colour)


def human_gap(time: float, lines: int, *, colour: bool) -> str:
    """The line in the place of `lines` that were left out because the terminal was too slow."""
    text = f"{_count(lines, 'line')} dropped here: standard output was not being read; the log file has them all"
    return _line(time, "log", Tone.WATCH, text, colour=colour)


def human_checkpoint(time: float, text: str) -> str:
    """The line of a signed checkpoint, which is never cut or coloured: a program will read it."""
    return f"{_clock(time)} {'log':<{NAME_WIDTH}}{text}"


def _line(time: float, name: str, tone: Tone, text: str, *, colour: bool) -> str:
    if len(text) > MAX_LINE:
        text = text[: MAX_LINE - 1] + "…"
    clock = _clock(time)
    if colour:
        return f"{_DIM}{clock}{_RESET} {tone}{name:<{NAME_WIDTH}}{_RESET}{text}"
    return f"{clock} {name:<{NAME_WIDTH}}{text}"


def _clock(time: float) -> str:
    """In UTC, as in the log file, so that the two can be compared."""
    return datetime.fromtimestamp(time, UTC).strftime("%H:%M:%SZ")


def _describe(event: ev.AnyEvent) -> tuple[str, Tone, str]:  # noqa: C901, PLR0912, PLR0915 - one case per event
    match event:
        case ev.ServerStarted():
            return "start", Tone.GOOD, _started(event)
        case ev.HostKeyCreated():
            why = "there was none" if event.reason == "missing" else "the file was empty; clients warn of the change"
            tone = Tone.GOOD if event.reason == "missing" else Tone.BAD
            return "host key", tone, f"new {event.key_type} {event.fingerprint} in {event.path}: {why}"
        case ev.HostCertificateLoaded():
            return "host key", Tone.BAD if event.problem else Tone.GOOD, _certificate(event)
        case ev.ServerStopping():
            why = _join(event.reason, event.detail)
            still = f"{_count(event.connections, 'connection')}, {_count(event.sessions, 'session')} open"
            return "stopping", Tone.WATCH, f"no longer accepting ({why}); {still}"
        case ev.ServerStopped():
            return "stopped", Tone.GOOD, event.message or f"{event.reason}, exit code {event.exit_code}"
        case ev.GatewayCrashed():
            ended = f"{_count(event.sessions, 'session')} ended with it"
            return "crash", Tone.BAD, f"the monitor (process {event.pid}) died: {event.cause}; {ended}"
        case ev.InternalError():
            return "bug", Tone.BAD, _join(event.where, event.conn and f"on {event.conn}", sep=" ")
        case ev.KeysLoaded():
            return "keys", Tone.WATCH if event.refused or event.origin == "last-good" else Tone.GOOD, _keys(event)
        case ev.KeysFailed():
            kept = f"{_count(event.kept, 'key')} from before in force"
            return "keys", Tone.BAD, f"backend error: {event.source}: {event.reason}; {kept}"
        case ev.RevokedListLoaded():
            return "keys", Tone.GOOD, _revoked_list(event)
        case ev.RevokedListFailed():
            return "keys", Tone.BAD, f"NOBODY GETS IN without the list of what is revoked: {event.list}: {event.reason}"
        case ev.AccountChanged():
            return "keys", Tone.BAD, event.message
        case ev.ConnectionOpened():
            via = event.proxy and f"through {event.proxy}"
            return (
                "connect",
                Tone.QUIET,
                _join(f"{event.conn} from {_address(event.peer, event.peer_port)}", via, sep=" "),
            )
        case ev.ConnectionRefused():
            return "refused", Tone.WATCH, _refused(event)
        case ev.AuthAttempt():
            tone = {"accepted": Tone.GOOD, "offered": Tone.QUIET, "denied": Tone.BAD}[event.result]
            return "auth", tone, _attempt(event)
        case ev.ConnectionAuthenticated():
            came = f"{event.user} from {event.peer} on {event.conn} in {_duration(event.seconds)}"
            text = f"{_broken_glass(event)}{came} with {_key(event)}; {event.client}, {event.cipher}"
            return "login", Tone.BAD if event.break_glass else Tone.GOOD, text
        case ev.ConnectionClosed():
            who = f"{event.conn} {event.user or 'unauthenticated'} from {event.peer} after {_duration(event.seconds)}"
            traffic = _traffic(event.bytes_in, event.bytes_out)
            return "closed", Tone.QUIET, f"{_join(who, event.reason, sep=': ')}; {traffic}"
        case ev.ConnectionRevoked():
            then = "stays on" if event.seconds is None else f"is off in {_duration(event.seconds)}"
            return "revoked", Tone.BAD, f"{event.user} on {event.conn} {then}: {event.reason}"
        case ev.ConnectionReinstated():
            return "revoked", Tone.GOOD, f"{event.user} on {event.conn} stays on after all: {event.reason}"
        case ev.RequestDenied():
            return _denied(event)
        case ev.SessionOpened():
            return "session", Tone.PLAIN, _opened(event)
        case ev.SessionExited():
            what = f"{event.session} {event.user} {_outcome(event)} after {_duration(event.seconds)}"
            return "exit", Tone.PLAIN, f"{what}; its output is still open"
        case ev.SessionClosed():
            what = f"{event.session} {event.user} {_outcome(event)} after {_duration(event.seconds)}"
            traffic = _traffic(event.bytes_in, event.bytes_out)
            return "ended", Tone.PLAIN, f"{_join(what, event.reason, sep=': ')}; {traffic}"
        case ev.RecordingStarted():
            return "record", Tone.QUIET, f"{event.session} {event.user} in {event.file}"
        case ev.RecordingEnded():
            text = _join(f"{event.session} {event.user}", event.reason, sep=": ")
            text = _join(text, event.missing and f"{_size(event.missing)} missing", sep="; ")
            return "record", Tone.QUIET if event.is_whole else Tone.BAD, text
        case ev.FileOperation():
            paths = _join(event.path, event.target, sep=" -> ")
            what = _join(event.session, event.user, event.operation, paths, event.detail, event.outcome, sep=" ")
            return "sftp", Tone.QUIET, f"{what}; {_traffic(event.bytes_written, event.bytes_read)}"
        case ev.ForwardListening():
            return "listen", Tone.PLAIN, f"{event.conn} {event.user} {event.kind} from {event.target}"
        case ev.ForwardOpened():
            return "forward", Tone.QUIET, f"{event.conn} {event.user} {event.kind} {event.target}"
        case ev.ForwardClosed():
            what = f"{event.conn} {event.user} {event.kind} {event.target} closed after {_duration(event.seconds)}"
            return "forward", Tone.QUIET, f"{what}; {_traffic(event.bytes_in, event.bytes_out)}"
        case ev.ControlRequest():
            asked = f"{event.command} from uid {event.uid} (pid {event.pid})"
            return "control", Tone.QUIET, _join(asked, event.outcome, sep=": ")
        case ev.IdleTick():
            return "idle", Tone.QUIET, event.message
        case ev.IdleReached():
            return "idle", Tone.WATCH, event.message
        case ev.MachineResumed() | ev.StopStep() | ev.BootStep():
            return _describe_machine(event)
        case ev.ConfigReloaded() | ev.ConfigRejected() | ev.AuditReopened() | ev.AuditLost() | ev.AuditLimited():
            return _describe_upkeep(event)
        case ev.ServiceStarted() | ev.ServiceEnded() | ev.ServiceOutput():
            return _describe_machine(event)
        case _:
            return _describe_stay(event)


def _describe_stay(event: StayEvent) -> tuple[str, Tone, str]:
    match event:
        case ev.ClientQuiet():
            quiet = f"has not been used for {_duration(event.seconds)} and does not keep the machine up"
            return "quiet", Tone.QUIET, f"{event.user} on {event.conn} {quiet}"
        case ev.ClientUsed():
            return "quiet", Tone.QUIET, f"{event.user} on {event.conn} is used again"
        case ev.ClientUse():
            used = _duration(sum(end - begin for begin, end in event.spans))
            return "use", Tone.QUIET, f"{event.user} on {event.conn} was used for {used} in all"
        case ev.HoldStarted():
            return "hold", Tone.WATCH, f"{event.hold} by {event.user} for {_duration(event.seconds)}: {event.reason}"
        case ev.HoldEnded():
            return "hold", Tone.PLAIN, f"{event.hold} by {event.user} ended: {event.why}"
        case ev.BackgroundWork():
            held = "has stopped" if event.is_over else f"holds the machine for {_duration(event.seconds)}"
            return "work", Tone.WATCH, f"{event.what} {held}"
        case ev.BackgroundSeen():
            worked = _duration(sum(begin - end for begin, end in event.spans))
            return "work", Tone.QUIET, f"seen for {worked} in all, while nobody used the clients that were on"
        case ev.TerminalUsed():
            return "terminal", Tone.WATCH, f"{event.what} and keeps the machine up"
        case ev.TerminalQuiet():
            return "terminal", Tone.PLAIN, f"no longer so, or not looked at while somebody is on: {event.what}"
        case ev.ScheduleEntered():
            return "schedule", Tone.WATCH, f"{event.what}: the machine stays up for {_duration(event.seconds)}"
    assert_never(event)


def _describe_upkeep(event: UpkeepEvent) -> tuple[str, Tone, str]:
    match event:
        case ev.ConfigReloaded():
            changed = ", ".join(event.changed) if event.changed else "nothing"
            restart = event.restart and f"needs a restart: {', '.join(event.restart)}"
            return "config", Tone.WATCH if event.restart else Tone.GOOD, _join(f"changed: {changed}", restart, sep="; ")
        case ev.ConfigRejected():
            return "config", Tone.BAD, f"can't be used, the old one stays in force: {'; '.join(event.problems)}"
        case ev.AuditReopened():
            return "log", Tone.GOOD, "the file was moved or deleted; this is a new one"
        case ev.AuditLost():
            return "log", Tone.BAD, f"can't be opened anew, and goes on where it was: {event.reason}"
        case ev.AuditLimited():
            lost = f"{event.lost} of its events are not logged" if event.lost else "more is only counted"
            return "log", Tone.BAD, f"{event.user} has used its share: {lost}"
    assert_never(event)


def _describe_machine(event: MachineEvent) -> tuple[str, Tone, str]:
    match event:
        case ev.MachineResumed():
            return "resumed", Tone.WATCH, f"the machine was away for {_duration(event.seconds)}"
        case ev.StopStep():
            tone = Tone.PLAIN if event.result == "done" else Tone.BAD
            return "stop", tone, f"{event.step}: {event.outcome} after {_duration(event.seconds)}"
        case ev.BootStep():
            tone = Tone.PLAIN if event.outcome in {"ok", "unchanged"} else Tone.BAD
            return "boot", tone, f"{event.step}: {event.outcome}"
        case ev.ServiceStarted():
            return "service", Tone.GOOD, _join(f"{event.service} runs as pid {event.pid}", event.restarts and "again")
        case ev.ServiceEnded():
            then = "is not started again" if event.again is None else f"starts again in {_duration(event.again)}"
            return "service", Tone.BAD, f"{event.service} ended with {event.cause} and {then}"
        case ev.ServiceOutput():
            return "service", Tone.PLAIN, f"{event.service}: {event.line}"
    assert_never(event)


def _started(event: ev.ServerStarted) -> str:
    stop = "never stops by itself"
    if event.idle_timeout is not None:
        stop = f"stops when idle for {_duration(event.idle_timeout)}"
    which = _join(f"version {event.version}", f"pid {event.pid}", event.generation > 1 and f"start {event.generation}")
    where = ", ".join(event.addresses) or _address(event.address, event.port)
    return f"accepting on {where} for {', '.join(event.users)}; {stop} ({which})"


def _keys(event: ev.KeysLoaded) -> str:
    how = "fetched" if event.origin == "fetched" else "from the last good copy"
    change = "changed" if event.changed else "unchanged"
    if event.changed and event.origin != "fetched":
        change = ""  # a copy is used at a start, where it would count as a change from nothing
    text = _join(
        f"{event.source}: {_count(event.accepted, 'key')} {how}",
        event.refused and f"{event.refused} refused",
        change,
    )
    return "; ".join([text, *event.refusals[:SHOWN_REFUSALS]])


def _certificate(event: ev.HostCertificateLoaded) -> str:
    if event.problem:
        return f"certificate {event.path} is not offered: {event.problem}"
    names = f"for {', '.join(event.principals)}" if event.principals else "for any host"
    return f"certificate {event.path} {names}"


def _revoked_list(event: ev.RevokedListLoaded) -> str:
    kind = "revoked keys" if event.kind == "keys" else "key revocation list"
    found = "1 entry" if event.entries == 1 else f"{event.entries} entries"
    return _join(f"{event.list}: {kind} with {found}", "changed" if event.changed else "unchanged")


def _refused(event: ev.ConnectionRefused) -> str:
    text = f"{_address(event.peer, event.peer_port)}: {event.reason}"
    more = f"{_count(event.count, 'more connection')} within {_duration(event.seconds)}, the last from"
    return f"{more} {text}" if event.seconds else text


def _attempt(event: ev.AuthAttempt) -> str:
    key = _join(event.key_type, event.fingerprint, event.source and f"of {event.source}", sep=" ")
    text = f"{event.result} {event.user} from {event.peer} on {event.conn} by {event.method}"
    return _join(text, event.reason, sep=": ") + (f" ({key})" if key else "")


def _person(identity: ev.Identity) -> str:
    return identity.person if identity.id is None else f"{identity.person}#{identity.id}"


def _key(event: ev.ConnectionAuthenticated) -> str:
    return f"{event.fingerprint} of {_person(event.identity)}"


def _denied(event: ev.RequestDenied) -> tuple[str, Tone, str]:
    """A forward that failed because its target refused the connection was not denied by us."""
    kind = event.request.partition(" ")[0]
    if kind in FORWARDS:
        return "forward", Tone.WATCH, f"{event.conn} {event.user} {event.request} not opened: {event.reason}"
    return "denied", Tone.BAD, f"{event.user} on {event.conn}: {event.request}: {event.reason}"


def _opened(event: ev.SessionOpened) -> str:
    return _join(_join(event.session, event.user, _runs(event), sep=" "), f"pid {event.pid}")


def _runs(event: ev.SessionOpened) -> str:
    tty = event.tty and f"on {event.tty} ({event.term})"
    instead = event.requested and f"instead of {event.requested}"
    return _join(_join(event.kind, event.command, tty, sep=" "), instead)


def _broken_glass(event: ev.ConnectionAuthenticated) -> str:
    return "break-glass, without a log: " if event.break_glass else ""


def _outcome(event: ev.SessionClosed | ev.SessionExited) -> str:
    if event.exit_signal is not None:
        return f"killed by {event.exit_signal}"
    if event.exit_status is not None:
        return f"exit {event.exit_status}"
    return "left its process running"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _traffic(bytes_in: int, bytes_out: int) -> str:
    return f"{_size(bytes_in)} in, {_size(bytes_out)} out"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{number} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h{minutes:02}m" if hours else f"{minutes}m"
    return f"{text}{rest:02}s" if rest else text


def _join(*parts: object, sep: str = ", ") -> str:
    return sep.join(str(part) for part in parts if part)

"""The story of a connection or a session, in sentences: who, from where, what, how it ended.

Takes events whose text is already safe to print (see `lines_for_people`). Operations on files, and forwarded
connections, are summed up where there are many of them.
"""

from collections import Counter
from datetime import datetime

import msgspec

from pyssh_gateway import events as ev
from pyssh_gateway.audit.reading.words import counted, duration, size, with_number

FEW = 5
"""Operations, and kinds of forwards, that are told one by one."""

_CHANNELS = {
    "direct-tcpip": "Forwarded to {}",
    "direct-streamlocal": "Forwarded to the socket {}",
    "forwarded-tcpip": "Forwarded from {} to the client",
    "forwarded-streamlocal": "Forwarded from the socket {} to the client",
    "auth-agent": "Used the client's agent, by {}",
    "x11": "Showed windows on the client's display, by {}",
}

_OPERATIONS = {
    "file.open_failed": ("open", "", "file"),
    "file.removed": ("remove", "removed", "file"),
    "file.renamed": ("rename", "renamed", "file"),
    "directory.made": ("make the directory", "made the directory", "directory"),
    "directory.removed": ("remove the directory", "removed the directory", "directory"),
    "link.made": ("make the link", "made the link", "link"),
    "attributes.set": ("change attributes of", "changed attributes of", "file"),
}
"""What is tried, what is done, and to what, which is what many of them are counted as."""


class Sentence(msgspec.Struct, frozen=True):
    """When it happened, and what."""

    time: float
    text: str


class _Forward(msgspec.Struct):
    first: float
    count: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Story:
    """Gathers the sentences about one connection; with `session`, without those about others of its sessions."""

    def __init__(self, session: str = "", *, every: bool = False) -> None:
        self._session = session
        self._every = every
        self._user = ""
        self._sentences: list[Sentence] = []
        self._forwards: dict[tuple[str, str], _Forward] = {}
        self._files: dict[str, list[tuple[float, ev.FileOperation]]] = {}

    def add(self, time: float, event: ev.AnyEvent) -> None:
        """The next event: of this connection, or of the machine meanwhile."""
        session = getattr(event, "session", "")
        if self._session and session and session != self._session:
            return
        match event:
            case ev.FileOperation():
                self._files.setdefault(event.session, []).append((time, event))
            case ev.ForwardOpened():
                self._forward(time, event).count += 1
            case ev.ForwardClosed():
                forward = self._forward(time, event)
                forward.bytes_in += event.bytes_in
                forward.bytes_out += event.bytes_out
            case ev.ConnectionAuthenticated():
                self._user = event.user
                self._say(time, _login(event))
            case _:
                self._say(time, self._told(event))

    def sentences(self) -> list[Sentence]:
        """What has been told, in order of time."""
        for session, operations in self._files.items():
            self._tell_files(session, operations)
        forwards = sorted(self._forwards.items(), key=lambda one: one[1].first)
        for (kind, target), forward in forwards:
            self._say(forward.first, _forwarded(kind, target, forward))
        return sorted(self._sentences, key=lambda one: one.time)

    def _say(self, time: float, text: str) -> None:
        if text:
            self._sentences.append(Sentence(time, text))

    def _forward(self, time: float, event: ev.ForwardOpened | ev.ForwardClosed) -> _Forward:
        return self._forwards.setdefault((event.kind, event.target), _Forward(time))

    def _told(self, event: ev.AnyEvent) -> str:  # noqa: C901, PLR0912 - one case per event
        match event:
            case ev.ConnectionOpened():
                via = f" through the proxy {event.proxy}" if event.proxy else ""
                number = f" ({event.proxy_id})" if event.proxy_id else ""
                return f"A connection came from {event.peer}, port {event.peer_port}{via}{number}."
            case ev.AuthAttempt(result="denied"):
                key = f"with the key {event.key_type} {event.fingerprint}" if event.fingerprint else "without a key"
                return f"Asked for the account {event.user} {key}: refused, {event.reason}."
            case ev.SessionOpened():
                return _session(event)
            case ev.SessionClosed():
                traffic = f"{size(event.bytes_in)} in, {size(event.bytes_out)} out"
                return (
                    f"{event.session} ended after {duration(event.seconds)}, {_exit(event)}: {event.reason}; {traffic}."
                )
            case ev.SessionExited():
                return f"The process of {event.session} ended, {_exit(event)}; others still held its output open."
            case ev.RecordingEnded() if not event.is_whole:
                missing = f"; {size(event.missing)} are missing" if event.missing else ""
                return f"The recording of {event.session} is not whole: {event.reason}{missing}."
            case ev.RequestDenied():
                return f"Asked for {event.request}: refused, {event.reason}."
            case ev.ForwardListening():
                return f"Opened a listener at {event.target}, for {event.kind}."
            case ev.ConnectionRevoked():
                then = "it stays" if event.seconds is None else f"it ends in {duration(event.seconds)}"
                return f"{event.reason}; {then}."
            case ev.ConnectionReinstated():
                return f"{event.reason}: the connection stays."
            case ev.ClientQuiet():
                return f"Had not been used for {duration(event.seconds)}, and did not keep the machine up any more."
            case ev.ClientUse():
                used = sum(end - begin for begin, end in event.spans)
                return f"Had been used for {duration(used)} in all, by the record of use."
            case ev.ClientUsed():
                return "Was used again."
            case ev.HoldStarted() if event.user == self._user:
                return f"Meanwhile {event.user} held the machine for {duration(event.seconds)}: {event.reason}."
            case ev.HoldEnded() if event.user == self._user:
                return f"The hold {event.hold} of {event.user} ended: {event.why}."
            case ev.GatewayCrashed():
                return f"The process that writes the log ended unexpectedly ({event.cause}); another one went on."
            case ev.InternalError():
                last = event.error.strip("\n").rpartition("\n")[2]
                return f"An error of the server's own, in {event.where}: {last}"
            case ev.ConnectionClosed():
                traffic = f"{size(event.bytes_in)} in, {size(event.bytes_out)} out"
                left = "" if event.goodbye or not event.user else " The client did not take its leave."
                return f"The connection ended after {duration(event.seconds)}: {event.reason}; {traffic}.{left}"
        return ""

    def _tell_files(self, session: str, operations: list[tuple[float, ev.FileOperation]]) -> None:
        if self._every or len(operations) <= FEW:
            for time, event in operations:
                self._say(time, f"{session}: {_operation(event)}.")
            return
        read = [event for _, event in operations if event.operation == "file.closed" and _is_reading(event)]
        written = [event for _, event in operations if event.operation == "file.closed" and not _is_reading(event)]
        parts = []
        if read:
            parts.append(f"read {_files(read)}, {size(sum(one.bytes_read for one in read))}")
        if written:
            parts.append(f"wrote {_files(written)}, {size(sum(one.bytes_written for one in written))}")
        others = Counter(_kind(event) for _, event in operations if event.operation != "file.closed")
        parts += [_summed(kind, number) for kind, number in others.items()]
        self._say(operations[0][0], f"{session}: {'; '.join(parts)}. --all lists them.")


def _login(event: ev.ConnectionAuthenticated) -> str:
    who = with_number(event.identity.person, event.identity.id)
    source = f" of {event.source}" if event.source else ""
    return (
        f"{who} logged in to the account {event.user} from {event.peer} with the key {event.fingerprint}{source}, "
        f"{duration(event.seconds)} after connecting. The client is {event.client or 'unknown'}, "
        f"the cipher {event.cipher}.{_previous(event)}"
    )


def _previous(event: ev.ConnectionAuthenticated) -> str:
    """When and from where the same person logged in before, on the machine's clock as all of the story."""
    before = event.previous
    if before is None:
        return ""
    try:
        when = f"{datetime.fromisoformat(before.time).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        when = before.time
    return f" The person's login before this one was at {when} from {before.peer}."


def _session(event: ev.SessionOpened) -> str:
    runs = {"shell": "a shell", "subsystem": f"the subsystem {event.command}"}.get(event.kind, f"ran {event.command}")
    tty = f" on {event.tty} ({event.term})" if event.tty else ""
    instead = f" instead of {event.requested}" if event.requested else ""
    return f"{event.session} began: {runs}{tty}{instead}, as process {event.pid}."


def _exit(event: ev.SessionClosed | ev.SessionExited) -> str:
    if event.exit_signal is not None:
        return f"killed by {event.exit_signal}"
    return "with its process still running" if event.exit_status is None else f"with exit status {event.exit_status}"


def _forwarded(kind: str, target: str, forward: _Forward) -> str:
    what = _CHANNELS.get(kind, f"{kind} {{}}").format(target)
    traffic = f"{size(forward.bytes_in)} in, {size(forward.bytes_out)} out"
    return f"{what}: {counted(forward.count, 'connection')}, {traffic}."


def _operation(event: ev.FileOperation) -> str:
    target = f" to {event.target}" if event.target else ""
    outcome = "" if event.outcome == "ok" else f" ({event.outcome})"
    if event.operation == "file.closed":
        read, wrote = f"read {size(event.bytes_read)} of", f"wrote {size(event.bytes_written)} to"
        both = read if _is_reading(event) else f"{read} and {wrote}" if event.bytes_read else wrote
        return f"{both} {event.path}{target}{outcome}"
    tried, done, _ = _OPERATIONS.get(event.operation, (event.operation, event.operation, ""))
    verb = done if event.outcome == "ok" and done else f"failed to {tried}"
    if event.operation not in _OPERATIONS:
        verb = event.operation
    return f"{verb} {event.path or event.detail}{target}{outcome}"


def _kind(event: ev.FileOperation) -> tuple[str, bool]:
    """What many operations are counted by: the operation, and whether it failed."""
    return event.operation, event.outcome != "ok"


def _summed(kind: tuple[str, bool], number: int) -> str:
    """`removed 2 files`, `failed to remove 1 file`."""
    operation, failed = kind
    if operation not in _OPERATIONS:
        return f"{operation}: {number}"
    tried, done, thing = _OPERATIONS[operation]
    verb = f"failed to {tried}" if failed or not done else done
    things = f"{number} directories" if thing == "directory" and number != 1 else counted(number, thing)
    return f"{verb.removesuffix(f' the {thing}')} {things}"


def _is_reading(event: ev.FileOperation) -> bool:
    return not event.bytes_written and "write" not in event.detail


def _files(events: list[ev.FileOperation]) -> str:
    named = ", ".join(event.path for event in events[:3])
    return f"{counted(len(events), 'file')} ({named}{' ...' if len(events) > 3 else ''})"

"""A session as the report tells it: who, from where, what, files, forwards, bytes, and how it ended."""

import msgspec

from pyssh_gateway.audit.report import words
from pyssh_gateway.audit.report.facts import FileDone, Forwarded, Session
from pyssh_gateway.audit.report.recordings import Recording, recorded_as

_FORWARDS = {
    "direct-tcpip": "to (-L, -D, -J)",
    "direct-streamlocal": "to the socket (-L)",
    "forwarded-tcpip": "from (-R)",
    "forwarded-streamlocal": "from the socket (-R)",
    "auth-agent": "the client's agent",
    "x11": "the client's display",
}
"""The directions of forwards, as users know them. Other types are shown as they are."""

_DONE = {
    "file.closed": "",
    "file.open_failed": "not opened",
    "file.removed": "removed",
    "file.renamed": "renamed",
    "directory.made": "directory made",
    "directory.removed": "directory removed",
    "link.made": "link made",
    "attributes.set": "attributes set",
}


class FileRow(msgspec.Struct, frozen=True):
    """An operation on a file."""

    at: float
    what: str
    path: str
    target: str
    size: str
    outcome: str
    is_bad: bool


class ForwardRow(msgspec.Struct, frozen=True):
    """A forwarded connection, or a listener."""

    at: float
    what: str
    target: str
    size: str
    lasted: str


class Story(msgspec.Struct, frozen=True):
    """A session. `what` is one of shell, exec, subsystem, forwards, connection; `tone` is "bad" if it failed."""

    name: str
    anchor: str
    begun: float
    began_before: bool
    person: str
    user: str
    peer: str
    what: str
    title: str
    command: str
    requested: str
    terminal: str
    lasted: str
    end: str
    tone: str
    reason: str
    client: str
    cipher: str
    fingerprint: str
    conn: str
    bytes_in: str
    bytes_out: str
    uploaded: str
    downloaded: str
    files: list[FileRow]
    more_files: int
    forwards: list[ForwardRow]
    more_forwards: int
    denied: list[tuple[float, str, str]]
    more_denied: int
    recording: Recording | None
    is_recorded: bool


def story(session: Session, times: int, recording: Recording | None) -> Story:
    """What is shown of a session, the `times`-th of this name."""
    link = session.link
    end, tone = _end(session)
    return Story(
        name=session.name,
        anchor=f"s-{session.name}" if times == 1 else f"s-{session.name}~{times}",
        begun=session.begun or 0.0,
        began_before=session.opened is None,
        person=link.person,
        user=link.user,
        peer=link.peer,
        what=session.kind or "session",
        title=_title(session),
        command=session.command,
        requested=session.requested,
        terminal=f"{session.tty} ({session.term})" if session.tty else "",
        lasted=words.duration(session.seconds) if session.closed is not None else "",
        end=end,
        tone=tone,
        reason=session.reason,
        client=link.client,
        cipher=link.cipher,
        fingerprint=link.fingerprint,
        conn=link.conn,
        bytes_in=words.size(session.bytes_in),
        bytes_out=words.size(session.bytes_out),
        uploaded=words.size(session.uploaded) if session.uploaded else "",
        downloaded=words.size(session.downloaded) if session.downloaded else "",
        files=[_file(one) for one in session.files],
        more_files=session.file_count - len(session.files),
        forwards=[_forward(one) for one in link.forwards],
        more_forwards=link.forward_count - len(link.forwards),
        denied=link.denied,
        more_denied=link.denied_count - len(link.denied),
        recording=recording,
        is_recorded=session.is_recorded and recorded_as(session) is not None,
    )


def _title(session: Session) -> str:
    """What it was, in a few words."""
    if session.kind == "forwards":
        return "forwards only"
    if session.kind == "connection":
        return "a connection without a session"
    if session.kind == "shell":
        return session.command or "shell"
    return session.command or session.kind or "a session that began before"


def _end(session: Session) -> tuple[str, str]:
    """How it ended, in a few words, and "bad" if it failed."""
    if session.is_cut:
        return "no end in the log", "bad"
    if session.closed is None:
        return "still open", ""
    if session.kind in ("forwards", "connection"):
        return "closed", ""
    if session.exit_signal is not None:
        return f"killed by {session.exit_signal}", "bad"
    if session.exit_status is not None:
        return f"exit {session.exit_status}", "bad" if session.exit_status else ""
    return "left its process running", ""


def _file(done: FileDone) -> FileRow:
    what = _DONE.get(done.operation, done.operation)
    size = done.bytes_read + done.bytes_written
    if done.operation == "file.closed":
        what = "uploaded" if done.bytes_written else "downloaded" if done.bytes_read else f"opened ({done.detail})"
    elif done.detail:
        what = f"{what} ({done.detail})"
    is_bad = done.outcome != "ok"
    return FileRow(done.at, what, done.path, done.target, words.size(size) if size else "", done.outcome, is_bad)


def _forward(done: Forwarded) -> ForwardRow:
    what = forward_name(done.kind)
    if done.seconds is None:
        return ForwardRow(done.at, f"listening: {what}", done.target, "", "")
    size = f"{words.size(done.bytes_in)} in, {words.size(done.bytes_out)} out"
    return ForwardRow(done.at, what, done.target, size, words.duration(done.seconds))


def forward_name(kind: str) -> str:
    """The type of a forward's channel, as users know it."""
    return _FORWARDS.get(kind, kind)

"""Finds what a reader of the log should know, among the lines: crashes, changes, revoked keys, holds, missing lines."""

from collections import deque
from collections.abc import Iterator

from pyssh_gateway.audit.report import lines as ln
from pyssh_gateway.audit.report.facts import Notable, short
from pyssh_gateway.audit.report.words import duration, number, size
from pyssh_gateway.events import SESSION_ENDED

MOST_OF_A_KIND = 50
"""How many of each kind are kept, the newest; all are counted."""


NOTABLE = frozenset(ln.KINDS) - {
    *(ln.Refused, ln.Attempt, ln.Authenticated, ln.Closed, ln.Denied, ln.SessionOpened, ln.SessionClosed),
    *(ln.SessionExited, ln.RecordingStarted),
    *(ln.ForwardListening, ln.ForwardOpened, ln.ForwardClosed),
}
"""The types of lines that can be notable. Most lines are of other types."""


class Notes:
    """What is notable in the lines that were seen so far."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[Notable]] = {}
        self.counts: dict[str, int] = {}
        self._host_keys: tuple[str, ...] = ()
        self.missing = 0

    @property
    def newest_first(self) -> list[Notable]:
        """All that are kept."""
        return sorted((one for kept in self._kept.values() for one in kept), key=lambda one: -one.at)

    @property
    def left_out(self) -> int:
        """How many are not kept."""
        return sum(self.counts.values()) - sum(len(kept) for kept in self._kept.values())

    def note(self, at: float, kind: str, tone: str, text: str) -> None:
        """Keep something notable; `tone` is "bad", "watch" or "plain"."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._kept.setdefault(kind, deque(maxlen=MOST_OF_A_KIND)).append(Notable(at, kind, tone, short(text, 600)))

    def jump(self, at: float, first: int, last: int) -> None:
        """The lines with these numbers should be before the one of that time."""
        gap = last - first + 1
        self.missing += gap
        numbers = f"{first}" if gap == 1 else f"{first} to {last}"
        self.note(at, "lines missing", "bad", f"{number(gap, 'line')} before this moment: {numbers}")

    def see(self, at: float, event: ln.AnyLine) -> None:
        """Take note of a line of one of the types `NOTABLE`."""
        if type(event) is ln.FileOperation and not event.operation.startswith("events."):
            return
        if isinstance(event, ln.Started) and event.host_keys:
            if self._host_keys and set(self._host_keys) - set(event.host_keys):
                text = "clients that know the old keys warn: " + ", ".join(event.host_keys)
                self.note(at, "host keys changed", "bad", text)
            self._host_keys = event.host_keys
        for kind, tone, text in _notable(event):
            self.note(at, kind, tone, text)


def _notable(event: ln.AnyLine) -> Iterator[tuple[str, str, str]]:
    """The kind, the tone and the text of what is notable in an event."""
    match event:
        case ln.Crashed(cause=cause):
            yield "crash", "bad", f"the monitor, which decides and writes the log: {cause}"
        case ln.Bug(where=where, error=error):
            yield "internal error", "bad", f"{where}: {error.strip().rpartition(chr(10))[2]}"
        case ln.Reloaded(changed=changed, restart=restart) if changed or restart:
            later = f"; at the next start: {', '.join(restart)}" if restart else ""
            yield "configuration changed", "watch", f"{', '.join(changed) or 'nothing at once'}{later}"
        case ln.Rejected(problems=problems):
            yield "configuration rejected", "bad", "; ".join(problems)
        case ln.LogLost(reason=reason):
            yield "log file lost", "bad", reason
        case ln.LogLimited(lost=lost) if lost:
            yield "events not logged", "bad", f"{lost} of {event.user}, who had used up the share of the log"
        case ln.StopStep(result="failed"):
            yield "stop step failed", "bad", f"{event.step}: {event.outcome}"
        case ln.ServiceEnded() if event.again is not None or event.cause not in ("exit code 0", "killed by SIGTERM"):
            then = "" if event.again is None else f"; started again after {duration(event.again)}"
            yield "service ended", "watch", f"{event.service}: {event.cause}{then}"
        case ln.HoldStarted():
            reason = event.reason or "no reason given"
            yield "hold", "plain", f"{event.user} for {duration(event.seconds)}: {reason}"
        case ln.FileOperation(operation="events.lost"):
            yield "file events lost", "bad", f"{event.detail} of session {event.session}"
        case ln.FileOperation(operation="events.invalid"):
            yield "invalid report", "bad", f"from the file server of session {event.session}: the rest was ignored"
        case _:
            yield from _about_keys(event)
            yield from _about_host_keys(event)
            yield from _about_recordings(event)


def _about_keys(event: ln.AnyLine) -> Iterator[tuple[str, str, str]]:
    match event:
        # After a start, the last good copy counts as a change from nothing.
        case ln.KeysLoaded(changed=True) if event.origin != "last-good" and (event.added or event.removed):
            added = [f"added {key}" for key in event.added]
            yield (
                "keys changed",
                "watch",
                f"{event.source}: {', '.join([*added, *(f'removed {k}' for k in event.removed)])}",
            )
        case ln.KeysFailed():
            yield "keys not readable", "watch", f"{event.source}: {event.reason}"
        case ln.RevokedList(changed=True):
            yield "revoked list changed", "watch", f"{event.list}: {number(event.entries, 'entry', 'entries')}"
        case ln.RevokedListFailed():
            yield "revoked list unreadable", "bad", f"nobody gets in meanwhile: {event.list}: {event.reason}"
        case ln.AccountChanged():
            yield "account changed", "bad", event.message or event.source
        case ln.Revoked():
            then = "stays" if event.seconds is None else f"ends in {duration(event.seconds)}"
            yield "key revoked", "bad", f"{event.user} on {event.conn} {then}: {event.reason}"
        case ln.Reinstated():
            yield "key reinstated", "plain", f"{event.user} on {event.conn}: {event.reason}"
        case _:
            pass


def _about_host_keys(event: ln.AnyLine) -> Iterator[tuple[str, str, str]]:
    match event:
        case ln.HostKeyCreated(reason="empty"):
            yield "host key replaced", "bad", f"{event.key_type} {event.fingerprint}: its file was empty"
        case ln.HostKeyCreated():
            yield "host key made", "plain", f"{event.key_type} {event.fingerprint}"
        case ln.HostCertificate(problem=problem) if problem:
            yield "host certificate", "bad", f"{event.path}: {problem}"
        case _:
            pass


def _about_recordings(event: ln.AnyLine) -> Iterator[tuple[str, str, str]]:
    match event:
        case ln.RecordingEnded(file=""):
            yield "not recorded", "bad", f"session {event.session} of {event.user}: {event.reason}"
        case ln.RecordingEnded(missing=missing) if missing or event.reason != SESSION_ENDED:
            lost = [f"{size(missing)} of the output are missing"] if missing else []
            why = [event.reason] if event.reason != SESSION_ENDED else []
            text = f"session {event.session} of {event.user}: {', '.join(why + lost)}"
            yield "recording incomplete", "watch", text
        case _:
            pass

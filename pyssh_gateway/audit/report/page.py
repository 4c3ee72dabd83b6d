"""All that the page shows, computed from what was gathered and from the history of the machine. No HTML here."""

import msgspec

from pyssh_gateway.audit.report import awake
from pyssh_gateway.audit.report.awake import AwakeView
from pyssh_gateway.audit.report.facts import Notable, Source
from pyssh_gateway.audit.report.gather import Gathered
from pyssh_gateway.audit.report.recordings import Chosen, recorded_as
from pyssh_gateway.audit.report.stories import Story, forward_name, story
from pyssh_gateway.core.idle.replay.spans import merged, within
from pyssh_gateway.core.idle.what_if.history import Connection, History
from pyssh_gateway.core.idle.what_if.reasons import awake_spans, on_and_used, stretches, wakes

DAY = 86400.0

SHOWN_PEOPLE = 100
SHOWN_SOURCES = 20
SHOWN_REASONS = 12
SHOWN_TUNNELS = 20


class PersonRow(msgspec.Struct, frozen=True):
    """A person: seconds with a connection, and in use; `days` are the hours connected on each day of the report."""

    name: str
    on: float
    used: float
    logins: int
    sessions: int
    users: list[str]
    keys: list[str]
    peers: list[str]
    last: float
    days: list[float]


class CopiedRow(msgspec.Struct, frozen=True):
    """What a person has copied with a tool. `files` is 0 where the log has bytes only."""

    person: str
    tool: str
    uploaded: int
    downloaded: int
    files: int


class LargeFile(msgspec.Struct, frozen=True):
    """One of the largest files that were copied."""

    path: str
    size: int
    is_upload: bool
    person: str
    at: float
    session: str


class TunnelRow(msgspec.Struct, frozen=True):
    """All forwarded connections to, or from, one place."""

    what: str
    target: str
    count: int
    size: int
    seconds: float
    people: list[str]


class DayOfLogins(msgspec.Struct, frozen=True):
    """The logins of a day, and how many were turned away: refused connections and denied attempts."""

    begun: float
    logins: int
    turned_away: int


class Page(msgspec.Struct, frozen=True):
    """The report. Times are Unix time; `begun` and `ended` are the time that it is about."""

    title: str
    version: str
    made: float
    begun: float
    ended: float
    only: list[str]
    price: float | None
    awake: AwakeView
    people: list[PersonRow]
    more_people: int
    logins: int
    turned_away: int
    login_days: list[DayOfLogins]
    sources: list[Source]
    more_sources: int
    denials: list[tuple[str, int]]
    refusals: list[tuple[str, int]]
    requests: list[tuple[str, int]]
    copied: list[CopiedRow]
    largest: list[LargeFile]
    tunnels: list[TunnelRow]
    more_tunnels: int
    notable: list[Notable]
    more_notable: int
    stories: list[Story]
    session_count: int
    recordings: Chosen
    lines: int
    damaged: int
    missing: int
    unrecorded_use: int
    left_out_connections: int
    strangers: int

    @property
    def alarms(self) -> int:
        """How many of the notable events are bad."""
        return sum(one.tone == "bad" for one in self.notable)

    @property
    def most_hours(self) -> float:
        """The most hours that somebody was connected on a day: the height of the bars of all people."""
        return max((hours for person in self.people for hours in person.days), default=0.0)

    @property
    def most_logins(self) -> int:
        """The most logins on a day."""
        return max((day.logins for day in self.login_days), default=0)

    @property
    def most_turned_away(self) -> int:
        """The most that were turned away on a day."""
        return max((day.turned_away for day in self.login_days), default=0)

    @property
    def login_dicts(self) -> list[dict[str, float]]:
        """The days of logins by field, for a chart of either."""
        return [msgspec.structs.asdict(day) for day in self.login_days]


class Asked(msgspec.Struct, frozen=True):
    """What the report is asked for: lines from `since` to `until`, the price of an hour, only these people.

    `running`: the server runs, and `until` is now.
    """

    title: str
    version: str
    since: float
    until: float
    now: float
    price: float | None
    people: tuple[str, ...]
    running: bool = False


def page(asked: Asked, history: History, gathered: Gathered, recordings: Chosen) -> Page:
    """The whole report."""
    begun = asked.since if gathered.has_older else max(asked.since, history.begun)
    ended = max(asked.until, history.ended)
    found = stretches(history)
    gathered.shorten_largest()
    people = _people(gathered, history, begun, ended)
    sources = sorted(gathered.sources.all, key=lambda one: -(one.denied + one.refused + one.logins))
    tunnels = sorted(gathered.tunnels.all, key=lambda one: (-(one.bytes_in + one.bytes_out), -one.count))
    notes = gathered.notes
    return Page(
        title=asked.title,
        version=asked.version,
        made=asked.now,
        begun=begun,
        ended=ended,
        only=list(asked.people),
        price=asked.price,
        awake=awake.view(
            found,
            wakes(history, found),
            history.awake,
            begun=begun,
            ended=ended,
            price=asked.price,
            running=asked.running,
        ),
        people=people[:SHOWN_PEOPLE],
        more_people=max(0, len(people) - SHOWN_PEOPLE),
        logins=sum(gathered.logins.values()),
        turned_away=sum(gathered.turned_away.values()),
        login_days=_login_days(gathered, begun, ended),
        sources=sources[:SHOWN_SOURCES],
        more_sources=max(0, len(sources) - SHOWN_SOURCES),
        denials=_most(gathered.denials),
        refusals=_most(gathered.refusals),
        requests=_most(gathered.requests),
        copied=_copied(gathered),
        largest=[
            LargeFile(done.path, size, done.bytes_written > 0, person, at, session)
            for size, person, at, session, done in gathered.largest
        ],
        tunnels=[
            TunnelRow(
                forward_name(one.kind),
                one.target,
                one.count,
                one.bytes_in + one.bytes_out,
                one.seconds,
                list(one.people),
            )
            for one in tunnels[:SHOWN_TUNNELS]
        ],
        more_tunnels=max(0, len(tunnels) - SHOWN_TUNNELS),
        notable=notes.newest_first,
        more_notable=notes.left_out,
        stories=_stories(gathered, recordings),
        session_count=gathered.session_count,
        recordings=recordings,
        lines=gathered.lines,
        damaged=gathered.damaged,
        missing=notes.missing,
        unrecorded_use=sum(one.login is not None and one.uses is None for one in history.connections),
        left_out_connections=history.left_out,
        strangers=sum(one.denied + one.refused > 0 for one in sources),
    )


def _stories(gathered: Gathered, recordings: Chosen) -> list[Story]:
    """The newest sessions first. Of several with one name and account (older logs), the newest has the recording."""
    told: dict[str, int] = {}
    left = dict(recordings.found)
    stories = []
    for one in sorted(gathered.sessions, key=lambda one: -one.begun):
        told[one.name] = told.get(one.name, 0) + 1
        whose = recorded_as(one)
        recording = left.pop(whose, None) if whose is not None else None
        stories.append(story(one, told[one.name], recording))
    return stories


def _people(gathered: Gathered, history: History, begun: float, ended: float) -> list[PersonRow]:
    connections: dict[str, list[Connection]] = {}
    for one in history.connections:
        if one.login is not None:
            connections.setdefault(one.person, []).append(one)
    up = awake_spans(history)
    rows = []
    for person in gathered.people.all:
        theirs = connections.get(person.known_by, [])
        on, used = on_and_used(theirs, up)
        spans = merged((one.login or one.opened, one.closed) for one in theirs)
        rows.append(
            PersonRow(
                name=person.name,
                on=on,
                used=used,
                logins=person.logins,
                sessions=person.sessions,
                users=list(person.users),
                keys=list(person.keys),
                peers=list(person.peers),
                last=person.last,
                days=[
                    sum(end - begin for begin, end in within(spans, midnight, midnight + DAY)) / 3600
                    for midnight in _midnights(begun, ended)
                ],
            )
        )
    return sorted(rows, key=lambda row: (-row.on, row.name))


def _midnights(begun: float, ended: float) -> list[float]:
    first, last = int(begun // DAY), int(max(begun, ended - 1) // DAY)
    return [number * DAY for number in range(first, last + 1)]


def _login_days(gathered: Gathered, begun: float, ended: float) -> list[DayOfLogins]:
    return [
        DayOfLogins(at, gathered.logins.get(int(at // DAY), 0), gathered.turned_away.get(int(at // DAY), 0))
        for at in _midnights(begun, ended)
    ]


def _copied(gathered: Gathered) -> list[CopiedRow]:
    rows = [
        CopiedRow(person.name, tool, one.uploaded, one.downloaded, one.files)
        for person in gathered.people.all
        for tool, one in person.copied.items()
    ]
    return sorted(rows, key=lambda row: -(row.uploaded + row.downloaded))


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:SHOWN_REASONS]

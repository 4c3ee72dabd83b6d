"""Numbers and times as people read them. Times are in UTC, as in the log."""

from datetime import UTC, datetime

from pyssh_gateway.core.printable import printable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_LAST = 253_402_300_799.0


def moment(at: float) -> datetime:
    """A Unix time as a datetime in UTC; one that is out of reach is the nearest that is within."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST), UTC)


def iso(at: float) -> str:
    """For programs: `2026-11-02T08:12:05Z`."""
    return moment(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at: float) -> str:
    """`Mon 2 Nov`."""
    when = moment(at)
    return f"{when:%a} {when.day} {when:%b}"


def date(at: float) -> str:
    """`2 November 2026`."""
    when = moment(at)
    return f"{when.day} {when:%B} {when.year}"


def clock(at: float) -> str:
    """`08:12`."""
    return f"{moment(at):%H:%M}"


def when(at: float) -> str:
    """`Mon 2 Nov 08:12`."""
    return f"{day(at)} {clock(at)}"


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 5 s`, `2 h 7 min`, `3 d 4 h`."""
    if seconds < 1:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    hours = round(seconds / 3600)
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"


def position(seconds: float) -> str:
    """A place in a recording, as players show it: `0:42`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def hours(seconds: float) -> str:
    """`142.3`: hours; what is not nothing is not shown as nothing."""
    count = seconds / 3600
    return f"{count:,.1f}" if count >= 0.05 or not seconds else "<0.1"


def size(count: int) -> str:
    """`512 B`, `1.2 MiB`."""
    value, place = float(count), 0
    while value >= 1024 and place < len(_UNITS) - 1:
        value, place = value / 1024, place + 1
    return f"{count} B" if not place else f"{value:.1f} {_UNITS[place]}"


def number(count: int, one: str, many: str = "") -> str:
    """`1 line`, `2 lines`, `1,234 lines`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def money(amount: float) -> str:
    """`1,234.50`, in whatever currency the price was."""
    return f"{amount:,.2f}"


def percent(part: float, whole: float) -> str:
    """`20 %`; what is not nothing is not shown as nothing."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 1 or not share else "<1 %"


def visible(text: str) -> str:
    """`text` with escapes for what is invisible or changes the order of other characters; the log has them already."""
    return text if text.isprintable() else "".join(one if one.isprintable() else printable(one) for one in text)

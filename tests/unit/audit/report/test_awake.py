"""audit.report.awake: totals, costs, and a row for each day."""

import pytest

from pyssh_gateway.audit.report import awake
from pyssh_gateway.audit.report.awake import AwakeView, view
from pyssh_gateway.core.idle.what_if.history import Awake
from pyssh_gateway.core.idle.what_if.reasons import Stretch, Wake

DAY = 86400.0
HOUR = 3600.0
BEGUN = 20_000 * DAY


def shown(*stretches: Stretch, price: float | None = 0.5, begun: float = 0.0, ended: float = 3 * DAY) -> AwakeView:
    """The view of these stretches, whose times are seconds since `BEGUN`."""
    moved = [Stretch(BEGUN + one.begun, BEGUN + one.ended, one.why) for one in stretches]
    times = [Awake(one.begun, one.ended, "idle") for one in moved]
    wakes = [Wake(one.begun, one.ended, "192.0.2.1", one.why == "nobody") for one in moved]
    return view(moved, wakes, times, begun=BEGUN + begun, ended=BEGUN + ended, price=price)


def test_totals_and_costs() -> None:
    """Hours by reason, what they cost, and what the whole time would have cost."""
    found = shown(Stretch(0, 2 * HOUR, "used"), Stretch(2 * HOUR, 3 * HOUR, "nobody"))
    assert (found.seconds, found.whole) == (3 * HOUR, 3 * DAY)
    assert (found.cost, found.always_on) == (1.5, 36.0)
    used, *_, nobody = found.totals
    assert (used.why, used.seconds, used.cost) == ("used", 2 * HOUR, 1.0)
    assert used.share == pytest.approx(2 / 3)
    assert (nobody.why, nobody.cost) == ("nobody", 0.5)
    assert (found.for_nobody, found.for_nobody_seconds, found.wakers[0].name) == (1, HOUR, "192.0.2.1")
    assert found.ends == [("stopped because nobody needed it", 2)]
    assert shown(price=None).cost is None


def test_a_stretch_over_midnight_is_in_both_days() -> None:
    """Days without any are there, too; bars are minutes of the day, and the parts beyond the report are marked."""
    found = shown(Stretch(23 * HOUR, 26 * HOUR, "hold"), begun=HOUR, ended=2 * DAY + 12 * HOUR)
    first, second, third = found.days
    assert [(bar.x, bar.width, bar.why) for bar in first.bars] == [(1380, 60, "hold")]
    assert [(bar.x, bar.width) for bar in second.bars] == [(0, 120)]
    assert (first.seconds, second.seconds, third.seconds) == (HOUR, 2 * HOUR, 0)
    assert (first.covered, third.covered) == ((60, 1440), (0, 720))
    assert (second.note, third.note) == ("holds 2 h", "asleep")
    assert second.bars[0].title == "Holds: 00:00 to 02:00, 2 h UTC"


def test_a_short_stretch_can_be_seen_and_stays_within_the_day() -> None:
    """A scanner's eight seconds are two minutes wide, also at midnight."""
    found = shown(Stretch(0, 8, "nobody"), Stretch(DAY - 8, DAY, "used"))
    assert [(bar.x, bar.width, bar.why) for bar in found.days[0].bars] == [(0, 2, "nobody"), (1438, 2, "used")]


def test_a_day_of_many_stretches_is_drawn_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the page from a scanned day; each step shows its strongest reason, and the sums stay exact."""
    monkeypatch.setattr(awake, "MOST_BARS", 10)
    scans = [Stretch(600.0 * at, 600.0 * at + 8, "nobody") for at in range(100)]
    found = shown(*scans, Stretch(60_010, 60_020, "used"), Stretch(60_300, 60_620, "used"))
    (day, *_) = found.days
    assert day.seconds == 100 * 8 + 330
    assert len(day.bars) == 101
    assert [(bar.x, bar.width) for bar in day.bars if bar.why == "used"] == [(1000, 15)]


def test_earlier_days_are_folded_away() -> None:
    """Of a year the last two months stand in the page at once."""
    found = shown(ended=365 * DAY)
    assert (len(found.days), len(found.earlier)) == (awake.SHOWN_DAYS, 365 - awake.SHOWN_DAYS)

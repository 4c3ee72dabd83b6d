"""Every finding that needs action says what to do."""

from pyssh_gateway.cli.doctor import finding
from pyssh_gateway.cli.doctor.finding import Finding, Level, count


def test_each_level_has_a_maker() -> None:
    """Each level has a function that makes its findings; those that need action require a hint."""
    found = [
        finding.ok("keys", "fine"),
        finding.note("keys", "by the way"),
        finding.unknown("keys", "closed", "as root"),
        finding.warning("keys", "soon", "do this"),
        finding.problem("keys", "now", "do that"),
    ]
    assert [each.level for each in found] == list(Level)
    assert [bool(each.hint) for each in found] == [False, False, True, True, True]
    assert count([*found, Finding("x", Level.PROBLEM, "y")], Level.PROBLEM) == 2

"""core.access.denials: the codes by which refused logins are counted."""

import re

from pyssh_gateway.core.access.denials import Denial
from tests.support.places import ROOT


def test_the_codes_are_those_that_are_documented() -> None:
    """Graphs and alarms use these codes, so that a renamed one would silently be missing there."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    table = text[text.index("| reason | a login was refused because |") :]
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == sorted(Denial)

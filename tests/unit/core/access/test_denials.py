"""core.access.denials: as what a refused login is counted."""

import re

import pytest

from pyssh_gateway.core.access.denials import CLASSES, OTHER, class_of
from tests.support.places import ROOT

PACKAGE = ROOT / "pyssh_gateway"


@pytest.mark.parametrize("beginning", [beginning for beginning, _ in CLASSES])
def test_the_sentences_are_those_that_are_said(beginning: str) -> None:
    """A reason that is worded anew would silently be counted as another."""
    said = "".join((PACKAGE / name).read_text() for name in ("core/access/policy.py", "gateway/server.py"))
    assert re.search(rf'["]{re.escape(beginning)}', said)


def test_a_reason_is_of_one_class() -> None:
    """The first that fits; what fits none is counted all the same."""
    assert class_of("the certificate expired 3d ago") == "expired"
    assert class_of("the certificate names no principals") == "certificate"
    assert class_of("key is not known; backend error: timeout") == "unknown-key"
    assert class_of("") == OTHER

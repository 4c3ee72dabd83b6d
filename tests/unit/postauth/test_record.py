"""The record of a session: the log's reasons for its end, and what counts as its use."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.core.session_end import Ending
from pyssh_gateway.postauth.record import REASONS, SessionRecord


def test_every_end_has_its_words() -> None:
    """Protects people who search their logs: every ending has a reason, and the reasons' texts do not change."""
    assert set(REASONS) == set(Ending)
    assert list(REASONS.values()) == [
        "exited",
        "exited, output left open",
        "channel closed",
        "connection lost",
        "server stopped",
        "key revoked",
    ]


@pytest.mark.parametrize(
    ("kind", "takes_lines", "counters"),
    [
        ("", None, Counters(worked=7)),
        ("exec", None, Counters(worked=7, opened=1)),
        ("subsystem", None, Counters(asked=3, worked=4, opened=1)),
        ("", lambda: True, Counters(typed=3, shown=4)),
        ("shell", lambda: True, Counters(typed=3, shown=4, opened=1, terminals=1)),
        ("exec", lambda: False, Counters(typed=3, opened=1, terminals=1)),
    ],
)
def test_what_counts_as_use(kind: str, takes_lines: Callable[[], bool] | None, counters: Counters) -> None:
    """Protects the idle rules: keys, requests for files, programs' data and terminals are counted apart."""
    record = SessionRecord(cast(Any, None))
    record.came(b"in!", None)
    record.went(b"out.", None)
    assert record.counters(kind, takes_lines) == counters

"""The log's reasons for a session's end."""

from pyssh_gateway.core.session_end import Ending
from pyssh_gateway.postauth.record import REASONS


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

"""ssh.disconnects: the reason of a connection's end, and whether the client intended it."""

import asyncssh
import pytest

from pyssh_gateway.ssh.disconnects import PeerClosed, end_reason, was_lost


@pytest.mark.parametrize(
    ("error", "reason", "lost_idle", "lost_busy"),
    [
        (None, "closed by the client", False, False),
        (PeerClosed(), "closed by the client without a goodbye", False, True),
        (asyncssh.ConnectionLost("Connection lost"), "Connection lost", True, True),
        (ConnectionResetError(104, "Connection reset by peer"), "[Errno 104] Connection reset by peer", True, True),
        (asyncssh.ProtocolError("nonsense"), "nonsense", False, False),
    ],
)
def test_how_a_connection_ended(error: Exception | None, reason: str, lost_idle: bool, lost_busy: bool) -> None:
    """Protects the grace period of clients that lost their network: a closed socket is known by type, not by text."""
    assert end_reason(error) == reason
    assert (was_lost(error, cut_off=False), was_lost(error, cut_off=True)) == (lost_idle, lost_busy)

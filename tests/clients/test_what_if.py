"""`pyssh-gateway idle what-if` on the log of a real server: a client is used, pauses, and is cut off by the stop."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.commands import as_root
from tests.support.forwards import Master
from tests.support.idle_stop import moment
from tests.support.server import Server
from tests.support.waiting import AT_ONCE

CLIENT_IDLE, TIMEOUT = 4.0, 6.0

ROUNDED = 0.5
"""Seconds by which the whole seconds of a span may be wrong."""


def asked(client: Client, *settings: str) -> dict[str, Any]:
    """What the command answers."""
    done = as_root(client, "idle", "what-if", "--json", *settings)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def used_until(server: Server) -> list[float]:
    """The ends of the spans of use, in Unix time, by the log."""
    (opened,) = server.find("connection.opened")
    return [moment(opened) + end for use in server.find("client.use") for _, end in use["spans"]]


def test_a_real_log_is_replayed(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """The settings of then give the time awake of then; half of them give what can be computed by hand.

    With `client_idle = "1s"` and `timeout = "1s"` the machine stops between the two uses, which are at least four
    seconds apart, and the person finds it asleep.
    """
    server = make_server({"idle": {"client_idle": f"{CLIENT_IDLE}s", "timeout": f"{TIMEOUT}s", "boot_grace": "1m"}})
    client = Client(server, user_key.private)
    with Master(client, tmp_path) as shared:
        server.wait_for("client.quiet")
        assert shared.run("true").status == 0
        server.wait_for("client.used")
        assert server.wait() == 0
    (used,) = server.find("client.use")
    assert used["identity"] == server.find("connection.authenticated")[0]["identity"]
    first, last = used_until(server)
    begun = moment(server.events[0])
    (stopping,) = server.find("server.stopping")
    assert stopping["action"] == "exit"

    same = asked(client)
    window = CLIENT_IDLE / 4
    replayed = same["in_force"]["awake"]
    assert replayed == pytest.approx(last + CLIENT_IDLE + TIMEOUT - begun, abs=window + ROUNDED)
    assert -window - ROUNDED <= same["recorded"]["awake"] - replayed < AT_ONCE
    assert (same["recorded"]["starts"], same["in_force"]["starts"]) == (1, 1)
    assert same["in_force"]["found_asleep"] == 0

    short = asked(client, "client_idle=1s", "timeout=1s")["changed"]
    assert (short["starts"], short["found_asleep"]) == (2, 1)
    second = 1.0 + 1.0 + window  # the span of the second use is one window
    assert short["awake"] == pytest.approx(first + 2.0 - begun + second, abs=2 * (0.25 + ROUNDED))


def test_a_short_connection_has_no_record(make_server: MakeServer, user_key: KeyPair) -> None:
    """A connection that ends before the first look costs no line more, counts as used to its end, and that is said."""
    server = make_server({"idle": {"timeout": "1s", "boot_grace": "1m"}})
    client = Client(server, user_key.private)
    assert client.run("true").status == 0
    assert server.wait() == 0
    assert not server.find("client.use")
    answer = asked(client)
    assert answer["recorded"]["awake"] == pytest.approx(answer["in_force"]["awake"], abs=AT_ONCE)
    assert "1 connection without a record of use" in answer["limits"][-1]

"""A real client that types at the very moment of a stop, by exit and by suspend: what it types in time is heard."""

import os
import signal
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import fly_api
from tests.support.client import Client
from tests.support.fly_api import FakeFlyApi
from tests.support.forwards import free_port
from tests.support.server import EventFields
from tests.support.waiting import until

TIMEOUT = 1.5
"""The idle time: the stop is due so many seconds after the client has become quiet."""

RECENT_USE = 4.0
"""Clients are looked at every quarter of it, so once before the stop, and then only at the last moment."""

BEFORE = 0.4
"""How many seconds before the stop the key is typed: after that look."""

KNOWN_BEFORE = 0.1
"""A key whose echo was here so many seconds before the stop was announced was known to the server before it decided."""


def when(event: EventFields) -> float:
    """The Unix time of an event."""
    return datetime.fromisoformat(event["ts"]).timestamp()


def _is_past(moment: float) -> bool:
    return time.time() >= moment


@pytest.mark.parametrize("action", ["exit", "suspend"])
def test_a_key_before_the_stop_calls_it_off(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, action: str
) -> None:
    """Protects a person who comes back in the last second: no key that the server has seen is followed by a stop."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        server = make_server(
            {
                "listen": {"port": free_port()},
                "stop": {"action": action, "fly_api": api.path},
                "idle": {
                    "timeout": f"{TIMEOUT}s",
                    "boot_grace": "1m",
                    "client_idle": "1s",
                    "recent_use": f"{RECENT_USE}s",
                },
            },
            environ=api.environ,
        )
        with Client(server, user_key.private).terminal("stty -icanon; cat >/dev/null") as terminal:
            quiet = server.wait_for("client.quiet")
            mark = server.mark()
            until(partial(_is_past, when(quiet) + TIMEOUT - BEFORE), what="moment before the stop")
            terminal.send("<key>")
            if terminal.expect("<key>|Goodbye")[0] == b"Goodbye":
                return  # this machine was too busy to type in time
            echoed = time.time()
            stops = server.find("server.stopping")
            assert not stops or echoed + KNOWN_BEFORE > when(stops[0]), "stopped, although the key was known"
            if stops:
                return
            server.wait_for("client.used", since=mark)
            assert not server.find("server.stopping")
            assert not api.requests
            stopping = server.wait_for("server.stopping")
            assert stopping["reason"] == "idle"
            assert when(stopping) - echoed >= RECENT_USE
        if action == "suspend":
            server.wait_for("stop.step", step="suspend", outcome="ok")
            assert server.stop() == 0
        else:
            assert server.wait() == 0


def test_a_process_that_can_not_answer_is_waited_for(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a person on a machine that is too busy to answer for a while: the stop waits for their keys."""
    server = make_server({"idle": {"timeout": "2s", "boot_grace": "1m", "client_idle": "1s"}})
    with Client(server, user_key.private).terminal("stty -icanon; cat >/dev/null") as terminal:
        due = when(server.wait_for("client.quiet")) + 2
        pid = server.postauth_pid
        os.kill(pid, signal.SIGSTOP)
        terminal.send("a key")
        until(partial(_is_past, due + 2), what="a moment long after the stop was due")
        assert not server.find("server.stopping")
        mark = server.mark()
        os.kill(pid, signal.SIGCONT)
        server.wait_for("client.used", since=mark)
        assert not server.find("server.stopping")
        assert server.wait() == 0
        terminal.wait()

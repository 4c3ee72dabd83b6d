"""The output of programs on a terminal whose person only watches: a build's is use, a monitor's is not."""

import shutil
from pathlib import Path

import pytest

from pyssh_gateway.core.idle.usage import TRICKLE_BYTES
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.idle_stop import moment
from tests.support.server import Server

BUILD = "while :; do seq 2000; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done"
"""Works all the time and writes as much as a verbose build."""


def serve(make_server: MakeServer) -> Server:
    """A server that soon treats an inactive person as gone. A busy machine gives a build a small share."""
    idle = {"timeout": "1s", "boot_grace": "1m", "client_idle": "2s", "background_cpu": 1}
    return make_server({"idle": idle})


@pytest.mark.soak
def test_a_build_that_is_watched_is_use(make_server: MakeServer, user_key: KeyPair, scratch: Path) -> None:
    """Protects a build in a terminal like one without: it counts as use until it ends, and not afterwards."""
    server, done = serve(make_server), scratch / "done"
    with Client(server, user_key.private).terminal() as terminal:
        terminal.ask("echo rea''dy", "ready")
        terminal.send(f"timeout 6 sh -c '{BUILD}'; touch {done}\n")
        terminal.wait()
    assert server.wait() == 0
    (quiet,) = server.find("client.quiet")
    assert moment(quiet) > done.stat().st_mtime


@pytest.mark.skipif(shutil.which("htop") is None, reason="htop is not installed")
def test_a_monitor_is_no_use(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the bill from an htop that is left open overnight, however much it works and writes."""
    server = serve(make_server)
    with Client(server, user_key.private).terminal("htop -d 1", size=(60, 200)) as terminal:
        terminal.expect("Load average")
        terminal.wait()
    assert server.wait() == 0
    (quiet,) = server.find("client.quiet")
    (closed,) = server.find("session.closed")
    assert closed["bytes_out"] > (quiet["seconds"] / 0.5) * TRICKLE_BYTES

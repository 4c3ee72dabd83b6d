"""X11 forwarding, with a real X server and a real X program."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client

NEEDED = ("Xvfb", "xauth", "xdpyinfo")

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in NEEDED), reason=f"needs {', '.join(NEEDED)}"
)


@pytest.fixture
def display() -> Iterator[str]:
    """An X server on a free display."""
    ready, tell = os.pipe()
    with subprocess.Popen(
        ["Xvfb", "-displayfd", str(tell), "-nolisten", "tcp"],
        pass_fds=[tell],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        os.close(tell)
        with os.fdopen(ready) as numbers:
            number = numbers.readline().strip()
        yield f":{number}"
        server.terminate()


@pytest.mark.parametrize("option", ["-X", "-Y"])
def test_a_program_reaches_the_clients_display(
    make_server: MakeServer, user_key: KeyPair, display: str, option: str
) -> None:
    """Protects `ssh -X`: DISPLAY leads to the client's X server, and the session has its cookie."""
    client = Client(make_server({"forwarding": {"x11": True}}), user_key.private)
    result = client.run("echo $DISPLAY; xdpyinfo", option, environ={"DISPLAY": display})
    assert result.status == 0, result.stderr
    assert result.stdout.startswith(b"localhost:1")
    assert b"version number:    11.0" in result.stdout


def test_it_is_off_unless_switched_on(client: Client, display: str) -> None:
    """Protects the client's screen: a server forwards a display only if its configuration says so."""
    result = client.run("echo [$DISPLAY]", "-X", environ={"DISPLAY": display})
    assert result.stdout == b"[]\n"

"""The dynamic message of the day, with real scripts, the real ssh, and a private /run for the server."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.waiting import until

SCRIPTS = Path("/etc/update-motd.d")

OWN_RUN = 'mount --bind "$0" /etc/update-motd.d && mount -t tmpfs run /run && exec "$@"'
"""Run in a mount namespace before the server starts there."""


@pytest.mark.skipif(os.geteuid() != 0 or not SCRIPTS.is_dir(), reason="only root has scripts run, where there are some")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no util-linux")
def test_it_is_shown_at_login_and_nobody_waits_for_it(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects what people see with sshd and PAM: it is shown without delaying logins; a hanging script is reported."""
    scripts = tmp_path / "update-motd.d"
    scripts.mkdir()
    for name, text in (("10-hello", "echo Hello from $(id -un)"), ("20-fails", "printf '\\033[2Jrest\\n'; exit 7")):
        (scripts / name).write_text(f"#!/bin/sh\n{text}\n")
        (scripts / name).chmod(0o755)
    server = make_server({"session": {"update_motd": True}}, start=False)
    server.wrapper = ["unshare", "--mount", "sh", "-c", OWN_RUN, str(scripts)]
    server.start()
    client = Client(server, user_key.private)
    until(lambda: client.run("cat /run/motd.dynamic").stdout == b"Hello from root\nrest\n", what="the first run")
    with client.terminal() as terminal:
        terminal.expect("Hello from root\r\nrest\r\n")
        terminal.send("exit\n")
        terminal.wait()
    assert (server.directory / "stderr").read_text().count("20-fails: ended with exit code 7") == 1

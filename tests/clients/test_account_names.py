"""Accounts with the kinds of names that directories use: a login works as for any other account, with the real ssh."""

import os
import pwd
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make an account")

NAMES = ["joe@corp.example", r"CORP\joe"]


@pytest.fixture(params=NAMES)
def entry(request: pytest.FixtureRequest) -> Iterator[pwd.struct_passwd]:
    """An account whose name is one that SSSD or winbind would show, made for one test."""
    name = f"{request.param}{os.getpid()}"
    home = f"/tmp/pyssh-test-home-{os.getpid()}"
    command = ["useradd", "--badname", "--create-home", "--home-dir", home, "--shell", "/bin/sh", name]
    made = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    if made.returncode:
        pytest.skip(f"useradd can't make it: {made.stderr.decode()}")
    try:
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", "--remove", "--force", name], capture_output=True, timeout=PATIENCE, check=False)


def test_account_of_a_directory_is_logged_in_to(
    make_server: MakeServer, user_key: KeyPair, entry: pwd.struct_passwd
) -> None:
    """Protects people whose accounts are in a directory: both ways to give ssh a user name work, and terminals."""
    server = make_server(login_settings={"user": entry.pw_name})
    client = Client(server, user_key.private)
    asked = client.run('id -u; echo "$USER" "$LOGNAME" "$HOME"', user=entry.pw_name)
    assert asked.stdout.decode().splitlines() == [
        str(entry.pw_uid),
        f"{entry.pw_name} {entry.pw_name} {entry.pw_dir}",
    ]
    host = [f"{entry.pw_name}@127.0.0.1", "id -u"]
    argv = ["ssh", *client.options(), *host]
    shown = subprocess.run(argv, capture_output=True, env=client_environment(), timeout=PATIENCE, check=False)
    assert shown.stdout.decode().strip() == str(entry.pw_uid), shown.stderr
    with client.terminal("test -t 0 && touch made && echo made", "-l", entry.pw_name) as terminal:
        terminal.expect("made")
        assert terminal.wait() == 0
    # The log escapes with backslashes, so it escapes the backslash itself.
    assert {event["user"] for event in server.find("session.opened")} == {entry.pw_name.replace("\\", r"\\")}


def test_other_spellings_are_other_accounts(
    make_server: MakeServer, user_key: KeyPair, entry: pwd.struct_passwd
) -> None:
    """Protects the account from names that look like its own: names are compared byte by byte."""
    server = make_server(login_settings={"user": entry.pw_name})
    client = Client(server, user_key.private)
    for other in (entry.pw_name.upper(), entry.pw_name.partition("@")[0].rpartition("\\")[2], entry.pw_name + " "):
        assert client.run("true", user=other).status == 255
    assert not server.find("connection.authenticated")

"""The order of a start: what exists when the monitor is forked, and what later processes find imported."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.account import PREAUTH_NAME
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

STARTS = '''
import importlib.abc
import importlib.machinery
import json
import os
import socket
import sys
import types

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.startup.serve import Options, serve


class Played(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The three processes' modules, in the place of the real ones."""

    def find_spec(self, name, path=None, target=None):
        if name in {f"pyssh_gateway.{room}.main" for room in ("monitor", "preauth", "postauth")}:
            return importlib.machinery.ModuleSpec(name, self)
        if name == "pyssh_gateway.preauth":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if module.__name__ == "pyssh_gateway.preauth.main":
            import asyncssh
        module.run_monitor, module.run_preauth, module.run_postauth = run_monitor, run_preauth, run_postauth
        module.Walls = lambda *_: None


def run_monitor(facts, listening, asking, metrics, control, registry):
    print(json.dumps(["monitor", "asyncssh" in sys.modules, [each.getsockname()[1] for each in listening]]), flush=True)
    assert facts.generation == 1
    control.send(protocol.encode(protocol.StartPreauth(1)))
    _, (preauth,) = protocol.receive(control)
    print(socket.socket(fileno=preauth).recv(1000).decode(), flush=True)
    return 0


def run_preauth(monitor, walls):
    names = ("asyncssh", "asyncssh.crypto.x509", "pyssh_gateway.postauth.main")
    found = [name for name in names if name in sys.modules]
    monitor.send(json.dumps(found).encode())
    return 0


def run_postauth(assignment, command_directory):
    return 0 if assignment.take() is None else 1  # nobody logs in


sys.meta_path.insert(0, Played())
sys.exit(serve(Options(config=sys.argv[1], port=None, trial=False, user=None, github=None), dict(os.environ)))
'''


@pytest.fixture
def config(tmp_path: Path, account: pwd.struct_passwd) -> Path:
    """A configuration with a login for us and a free port, which serves strangers as the tests' account."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    keys = tmp_path / "keys.pub"
    keys.write_text("")
    path = tmp_path / "config.toml"
    path.write_text(
        f'control = "{tmp_path}/control.sock"\nkeys_dir = "{tmp_path}"\naudit_dir = "{tmp_path}"\n'
        f'preauth_account = "{PREAUTH_NAME}"\n[listen]\naddress = "127.0.0.1"\nport = 0\n'
        f'[[login]]\nuser = "{me}"\nkeys = ["file:{keys}"]\n'
    )
    return path


def test_the_monitor_is_forked_before_asyncssh_is_imported(config: Path) -> None:
    """The monitor starts at once and without asyncssh in memory; a preauth process finds asyncssh imported."""
    run = subprocess.run(
        [sys.executable, "-c", STARTS, str(config)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    monitor, preauth = map(json.loads, run.stdout.splitlines())
    assert monitor[:2] == ["monitor", False]
    assert len(monitor[2]) == 1
    assert preauth == ["asyncssh", "pyssh_gateway.postauth.main"]


def test_standard_descriptors_that_are_closed_are_opened() -> None:
    """Protects a start with closed standard descriptors: no file gets their numbers, and output is discarded."""
    script = (
        "import os, sys; from pyssh_gateway.startup.serve import keep_standard_descriptors as keep; keep();"
        "print('hello', flush=True); sys.stderr.flush(); os.write(int(sys.argv[1]), b'kept')"
    )
    command = ["sh", "-c", '"$0" -c "$1" 5 5>&1 >&- 2>&- <&-', sys.executable, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"kept", b"")


@pytest.mark.parametrize("option", [("--github", "example"), ("--user", "amos")])
def test_what_a_configuration_would_leave_out_is_refused(config: Path, option: tuple[str, str]) -> None:
    """`make run CONFIG=... GITHUB=...` is refused if the configuration has logins: the option would do nothing."""
    command = [sys.executable, "-m", "pyssh_gateway", "serve", "--trial", "--config", str(config), *option]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"pyssh-gateway: {' '.join(option)}: {config} has a [[login]]")
    assert line.endswith(f"leave {' '.join(option)} out")

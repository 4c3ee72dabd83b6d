"""`doctor` as a command: what is printed, for people and for programs, and its exit code."""

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from pyssh_gateway.cli import main
from tests.support.account import PREAUTH_NAME
from tests.support.key_lines import ed25519

ME = pwd.getpwuid(os.geteuid()).pw_name

Run = Callable[..., "tuple[int, str]"]


@pytest.fixture
def run(tmp_path: Path, account: object, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `doctor` with a configuration that has this key file; returns exit code and output."""
    (tmp_path / "keys.pub").write_bytes(ed25519(1) + b"\n")

    def command(*arguments: str, keys: str = "keys.pub", more: str = "") -> tuple[int, str]:
        (tmp_path / "config.toml").write_text(
            f'control = "off"\nkeys_dir = "{tmp_path}/state"\naudit_dir = "{tmp_path}/audit"\naccount = "nobody"\n'
            f'preauth_account = "{PREAUTH_NAME}"\n{more}[listen]\naddress = "127.0.0.1"\nport = 0\n'
            f'[[login]]\nuser = "{ME}"\nkeys = ["file:{tmp_path}/{keys}"]\n'
        )
        before = sorted(tmp_path.rglob("*"))
        code = main.run(["doctor", *arguments, "--config", str(tmp_path / "config.toml")], {})
        assert sorted(tmp_path.rglob("*")) == before, "looking has changed something"
        return code, capsys.readouterr().out

    return command


def test_a_machine_on_which_a_login_works(run: Run) -> None:
    """Every topic is examined, in an order from the file to the machine, and the exit code says that all is well."""
    code, out = run()
    topics = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert topics[:-1] == [
        *("configuration", "ports", "accounts", "keys", "files", "clock", "server", "systemd", "resources")
    ]
    assert "PROBLEM" not in out
    assert code == 0


def test_what_stops_a_login_is_named_with_what_to_do(run: Run) -> None:
    """The exit code and the last line say that there are problems, and each problem is followed by its remedy."""
    code, out = run(keys="none.pub")
    assert code == 1
    lines = out.splitlines()
    problems = [number for number, line in enumerate(lines) if line.startswith("  PROBLEM")]
    assert len(problems) == 2
    assert all(lines[number + 1].strip().startswith("-> ") for number in problems)
    assert lines[-1].startswith("2 problems")


def test_programs_get_the_same(run: Run) -> None:
    """Programs get one JSON object, with the counts from which the exit code is computed."""
    code, out = run("--json", keys="none.pub")
    report = json.loads(out)
    assert (code, report["problems"]) == (1, 2)
    found = [each for each in report["findings"] if each["level"] == "problem"]
    assert [each["topic"] for each in found] == ["keys", "keys"]
    assert all(each["hint"] for each in found)


def test_a_configuration_that_cannot_be_used_is_a_finding(run: Run) -> None:
    """When the configuration cannot be used, the rest of the machine is examined all the same."""
    code, out = run(more='colour = "blue"\n')
    assert code == 1
    assert out.startswith("configuration\n  PROBLEM  colour: unknown key")
    assert "resources" in out
    assert "ports" not in out

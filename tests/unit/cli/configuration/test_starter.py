"""`config init`: the file that it writes can be used at once, and its comments have the true defaults."""

import os
import pwd
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pyssh_gateway.cli import main
from pyssh_gateway.cli.configuration import starter
from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.source import read
from pyssh_gateway.config.types import Config
from tests.support.account import PREAUTH_NAME
from tests.support.key_lines import ed25519

ME = pwd.getpwuid(os.geteuid()).pw_name

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns exit code, output and error messages."""

    def command(*arguments: str, **environ: str) -> tuple[int, str, str]:
        code = main.run(arguments, environ)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def parsed(text: str, directory: Path) -> Config:
    """The configuration that results from a file with this text."""
    (directory / "parsed.toml").write_text(text)
    return parse(read(str(directory / "parsed.toml"), {}, {}))


def test_what_is_written_passes_the_check(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: pwd.struct_passwd
) -> None:
    """Protects a newcomer's first file: it needs no correction before the first start."""
    monkeypatch.setattr(starter, "places", lambda: (str(tmp_path / "keys"), str(tmp_path / "audit")))
    keys, path = tmp_path / "authorized_keys", tmp_path / "etc" / "config.toml"
    keys.write_bytes(ed25519(1) + b"\n")
    code, out, err = run("config", "init", "--user", ME, "--keys", str(keys), str(path))
    assert (code, out, err) == (0, f"made {path}; next: pyssh-gateway check --config {path}\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == starter.MODE
    accounts = {"PYSSH_GATEWAY_ACCOUNT": "nobody", "PYSSH_GATEWAY_PREAUTH_ACCOUNT": PREAUTH_NAME}
    code, out, err = run("check", "--config", str(path), **accounts, PYSSH_GATEWAY_LISTEN__PORT="0")
    assert (code, err) == (0, ""), out


def test_a_file_that_is_there_stays(run: Run, tmp_path: Path) -> None:
    """`config init` never overwrites a configuration that exists."""
    path = tmp_path / "config.toml"
    path.write_text("mine")
    code, out, err = run("config", "init", "--user", ME, "--github", "example", str(path))
    assert (code, out) == (1, "")
    assert f"{path} is there already, and stays as it is" in err
    assert path.read_text() == "mine"


@pytest.mark.parametrize("where", [(), ("-",)])
def test_without_a_file_it_is_printed(run: Run, tmp_path: Path, where: tuple[str, ...]) -> None:
    """Without a file name the text is printed, to be looked at, or piped to a place that needs other rights."""
    code, out, _ = run("config", "init", "--user", ME, "--github", "example", *where)
    assert code == 0
    (login,) = parsed(out, tmp_path).login
    assert (login.user, login.keys) == (ME, ("github:example",))


def test_every_comment_that_is_a_setting_is_a_default(tmp_path: Path) -> None:
    """Removing a comment sign changes nothing yet, so each comment has the default, under the key's current name."""
    text = starter.starter(user=ME, github="example")
    uncommented, count = re.subn(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    assert count > 15
    assert parsed(uncommented, tmp_path) == parsed(text, tmp_path)


def test_keys_that_are_there_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in an existing authorized_keys are used, as on a cloud machine; without any, the error says what to give."""
    entry = pwd.struct_passwd(("amos", "x", 1000, 1000, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    with pytest.raises(Failed, match="--github LOGIN, or --keys FILE"):
        starter.starter(user="amos")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "authorized_keys").write_bytes(ed25519(1) + b"\n")
    (login,) = parsed(starter.starter(user="amos"), tmp_path).login
    assert login.keys == (f"file:{tmp_path}/.ssh/authorized_keys",)


def test_root_says_who_is_meant_unless_it_is_plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As root, the only personal account is used; if there are several or none, it must be named and is not guessed."""

    def people(*names: str) -> None:
        system = pwd.struct_passwd(("daemon", "x", 1, 1, "", "/", "/bin/sh"))
        entries = [pwd.struct_passwd((name, "x", 1000, 1000, "", "/", "/bin/sh")) for name in names]
        monkeypatch.setattr(pwd, "getpwall", lambda: [system, *entries])

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    people("amos")
    assert parsed(starter.starter(github="example"), tmp_path).login[0].user == "amos"
    people("amos", "bob")
    with pytest.raises(Failed, match="--user NAME; there are amos, bob"):
        starter.starter(github="example")
    people()
    with pytest.raises(Failed, match="there is none"):
        starter.starter(github="example")


@pytest.mark.parametrize("given", [{"user": "nosuchdev"}, {"github": "a/b"}])
def test_what_can_not_be_is_refused(given: dict[str, str]) -> None:
    """Input that `check` would refuse is refused before anything is written."""
    with pytest.raises(Failed, match=r"nosuchdev|a GitHub login"):
        starter.starter(**{"user": ME, "github": "example"} | given)

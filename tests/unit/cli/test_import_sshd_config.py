"""cli: `import-sshd-config` with this machine's accounts, with included files, and with files that are not sshd's."""

import os
import pwd
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pyssh_gateway.cli import import_sshd_config, main
from pyssh_gateway.cli.reference import parsing
from pyssh_gateway.config import source
from pyssh_gateway.config.parser import parse
from tests.support.places import ROOT

ME = pwd.getpwuid(os.geteuid())

Import = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def sshd_config(tmp_path: Path) -> Path:
    """A configuration of sshd's that lets the account that runs the tests log in."""
    (tmp_path / f"{ME.pw_name}.keys").touch()
    path = tmp_path / "sshd_config"
    path.write_text(f"AddressFamily inet\nPort 2022\nAllowUsers {ME.pw_name}\nAuthorizedKeysFile {tmp_path}/%u.keys\n")
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Import:
    """Runs the command; returns exit code, output and error messages."""

    def command(*words: str | Path) -> tuple[int, str, str]:
        code = main.run(["import-sshd-config", *map(str, words)], {})
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_everything_is_translated(run: Import, sshd_config: Path) -> None:
    """A file without special settings gives a configuration on standard output, and next steps on standard error."""
    code, out, err = run(sshd_config)
    made = tomllib.loads(out)
    assert made["listen"] == {"address": ["0.0.0.0:2022"]}
    assert made["login"] == [{"user": ME.pw_name, "keys": [f"file:{sshd_config.parent}/{ME.pw_name}.keys"]}]
    assert code == 0
    assert "1 account may log in. Next" in err
    assert "pyssh-gateway check --config FILE" in err
    assert "not translated" not in err


def test_a_file_is_written_once(run: Import, sshd_config: Path, tmp_path: Path) -> None:
    """`-o` makes a file, and never overwrites one that exists."""
    target = tmp_path / "config.toml"
    code, out, err = run(sshd_config, "-o", target)
    assert (code, out) == (0, "")
    assert f"check --config {target}" in err
    written = target.read_text()
    assert parse(source.read(str(target), {}, {})).login[0].user == ME.pw_name
    code, out, err = run(sshd_config, "-o", target)
    assert (code, out) == (1, "")
    assert f"{target} is there already, and stays as it is" in err
    assert target.read_text() == written
    code, _, err = run(sshd_config, "-o", tmp_path / "missing" / "config.toml")
    assert (code, "cannot be written: No such file or directory" in err) == (1, True)


def test_what_is_left_out_is_said_and_noted(run: Import, sshd_config: Path) -> None:
    """Untranslated lines are listed on standard error and in the file, for later readers, and give exit code 1."""
    with sshd_config.open("a") as file:
        file.write("UsePAM yes\nCiphers aes128-ctr\n")
    code, out, err = run(sshd_config)
    assert code == 1
    assert err.startswith(f"not translated: {sshd_config} line 5: UsePAM yes: PAM is not asked.")
    assert f"\nnot translated: {sshd_config} line 6: Ciphers aes128-ctr: Fixed: modern algorithms only" in err
    assert f"\n# - {sshd_config} line 6: Ciphers aes128-ctr: " in out
    assert tomllib.loads(out)["login"]


def test_files_are_included(run: Import, sshd_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Included files are read by pattern, in order, from sshd's directory: cloud images use sshd_config.d."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "20.conf").write_text("MaxAuthTries 2\n")
    (tmp_path / "d" / "10.conf").write_text("MaxAuthTries 1\n")
    sshd_config.write_text(f"Include d/*.conf {tmp_path}/none/*\n{sshd_config.read_text()}MaxSessions 3\n")
    monkeypatch.setattr(import_sshd_config, "SSHD_DIRECTORY", tmp_path)
    code, out, _ = run(sshd_config)
    assert (code, tomllib.loads(out)["limits"]) == (0, {"auth_attempts": 1, "sessions_per_connection": 3})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Port\n", "sshd_config line 1: no argument after keyword port"),
        (b"Banner 'x\n", "sshd_config line 1: invalid quotes"),
        (b"Port 22\0\n", "sshd_config: is not text"),
        (b"#" * (1024 * 1024 + 1), "sshd_config: is longer than 1024 KiB"),
        (None, "sshd_config: cannot be read: No such file or directory"),
    ],
)
def test_files_that_sshd_would_not_take(run: Import, tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A file that sshd would not accept is refused with exit code 2 and a reason, and nothing is written."""
    if content is not None:
        (tmp_path / "sshd_config").write_bytes(content)
    code, out, err = run(tmp_path / "sshd_config", "-o", tmp_path / "config.toml")
    assert (code, out) == (2, "")
    assert reason in err
    assert not (tmp_path / "config.toml").exists()


def test_nobody_may_log_in(run: Import, sshd_config: Path) -> None:
    """When no account has keys, the command says that nobody may log in, and names no next step."""
    (sshd_config.parent / f"{ME.pw_name}.keys").unlink()
    code, out, err = run(sshd_config)
    assert code == 1
    assert "login" not in tomllib.loads(out)
    assert "nobody may log in" in err
    assert "Next" not in err


def test_accounts_of_directories(run: Import, sshd_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts that the machine's list lacks (SSSD) are looked up by the names in the file."""
    monkeypatch.setattr(pwd, "getpwall", list)
    with sshd_config.open("a") as file:
        file.write("Match User nobody-has-this-name\nX11Forwarding yes\n")
    code, out, err = run(sshd_config)
    assert tomllib.loads(out)["login"][0]["user"] == ME.pw_name
    assert (code, "Match User nobody-has-this-name: it fits no account here" in err) == (1, True)


def test_the_page_shows_the_command() -> None:
    """The program accepts the command line in docs/from-sshd.md."""
    text = (ROOT / "docs" / "from-sshd.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("pyssh-gateway import-sshd-config ")]
    command, rest = parsing.find(line.split()[1:])
    given = parsing.parse(command, rest)
    assert (given.file, given.output) == ("/etc/ssh/sshd_config", "/etc/pyssh-gateway/config.toml")

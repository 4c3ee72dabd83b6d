"""cli: `keys rotate-host` and `keys import-host`, step by step, and what they print."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pyssh_gateway.cli import main
from pyssh_gateway.keys.host_keys import load_or_create
from tests.support.waiting import PATIENCE

Run = Callable[..., "tuple[int, str, str]"]


def fingerprint(path: Path) -> str:
    """A key's fingerprint, by ssh-keygen."""
    command = ["ssh-keygen", "-lf", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout.split()[1]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command for a server with these types of keys; returns exit code, output and error messages."""

    def command(*arguments: str, types: str = '"ed25519", "ecdsa"') -> tuple[int, str, str]:
        (tmp_path / "config.toml").write_text(
            f'keys_dir = "{tmp_path}/keys"\ncontrol = "off"\n[host_keys]\ntypes = [{types}]\n'
        )
        code = main.run(["keys", *arguments, "--config", str(tmp_path / "config.toml")], {})
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_a_rotation(run: Run, tmp_path: Path) -> None:
    """Protects a rotation: each step names the next one, and `--finish` has to wait unless it is forced."""
    keys_dir = tmp_path / "keys"
    old = load_or_create(keys_dir, ("ed25519", "ecdsa"))
    code, out, _ = run("rotate-host")
    assert code == 0
    following = {kind: fingerprint(keys_dir / f"ssh_host_{kind}_key_next") for kind in ("ed25519", "ecdsa")}
    for kind, sha in following.items():
        assert f"next {kind} key, new: {sha}  ({keys_dir}/ssh_host_{kind}_key_next)" in out.splitlines()
    assert "pyssh-gateway keys rotate-host --finish" in out
    assert f"there already: {following['ecdsa']}" in run("rotate-host")[1]

    code, out, err = run("rotate-host", "--finish")
    assert (code, out) == (1, "")
    assert "would be warned of a changed key" in err
    assert "--now" in err
    assert load_or_create(keys_dir, ("ed25519",))[0].fingerprint == old[0].fingerprint

    code, out, _ = run("rotate-host", "--finish", "--now", "--type", "ecdsa")
    assert (code, out.splitlines()[0]) == (
        0,
        f"the ecdsa key is now {following['ecdsa']}  ({keys_dir}/ssh_host_ecdsa_key)",
    )
    assert fingerprint(keys_dir / "ssh_host_ecdsa_key") == following["ecdsa"]
    assert fingerprint(keys_dir / "ssh_host_ed25519_key") == old[0].fingerprint

    code, out, _ = run("rotate-host", "--abort")
    assert (code, out) == (0, f"the next ed25519 key is gone: {following['ed25519']}; the one in use stays\n")
    for step in ("--finish", "--abort"):
        code, _, err = run("rotate-host", step)
        assert code == 1
        assert "waits to follow the one in use" in err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--now",), 2, "--now goes with --finish"),
        (("--type", "rsa"), 1, "host_keys.types in the configuration does not have rsa"),
        ((), 1, "there is no ed25519 host key yet"),
        (("--finish", "--abort"), 2, "--finish and --abort"),
        (("--type", "dsa"), 2, "--type is ed25519, ecdsa or rsa"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, reason: str
) -> None:
    """Protects the keys from an incomplete command, and tells what is missing."""
    answer = run("rotate-host", *arguments)
    assert answer[0] == code
    assert reason in answer[2]
    assert not (tmp_path / "keys").exists()


def test_an_import(run: Run, tmp_path: Path) -> None:
    """Protects the move from sshd: the command prints which keys it took and which types to configure."""
    for kind in ("ed25519", "rsa"):
        path = tmp_path / f"ssh_host_{kind}_key"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True, timeout=PATIENCE)
    code, out, _ = run("import-host", str(tmp_path))
    assert code == 0
    assert out.splitlines()[:2] == [
        f"{kind} key imported: {fingerprint(tmp_path / f'ssh_host_{kind}_key')}  ({tmp_path}/keys/ssh_host_{kind}_key)"
        for kind in ("ed25519", "rsa")
    ]
    assert 'types = ["ed25519", "ecdsa", "rsa"]' in out.splitlines()
    code, out, _ = run("import-host", str(tmp_path), types='"ed25519", "rsa"')
    assert code == 0
    assert "ed25519 key here already" in out
    assert "types =" not in out
    assert run("import-host", str(tmp_path / "keys" / "nothing"))[0] == 1

"""cli: `check`, and `keys` without a server: they show what would be in force, and change nothing."""

import json
import os
import pwd
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyssh_gateway.cli import main
from pyssh_gateway.core.access.authorized_keys import parse
from pyssh_gateway.keys.copies import FETCHED_DIRECTORY, Copies, Copy
from tests.support.account import PREAUTH_NAME
from tests.support.boot import volume
from tests.support.certificates import Authority, make_key
from tests.support.github import FakeGitHub, keys, status
from tests.support.key_lines import ed25519
from tests.support.waiting import PATIENCE

ME = pwd.getpwuid(os.geteuid()).pw_name
STRANGER = 12345
EXPIRED = "pyssh-expired"

Run = Callable[..., "tuple[int, str, str]"]


def fingerprint(line: bytes) -> str:
    """The fingerprint of a key line."""
    return parse(line, "", allow_options=True).accepted[0].fingerprint


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a key file of one key."""
    (tmp_path / "authorized_keys").write_bytes(ed25519(1) + b" amos@laptop\n")
    return tmp_path


@pytest.fixture
def github(github: FakeGitHub) -> FakeGitHub:
    """A GitHub whose account `example` has another key."""
    github.script("example", keys(ed25519(2).decode()))
    github.account("example", 7)
    return github


@pytest.fixture
def run(place: Path, account: pwd.struct_passwd, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with a configuration of these sources and settings; returns exit code, output and errors."""

    def command(
        *arguments: str,
        sources: list[str] | None = None,
        github: FakeGitHub | None = None,
        user: str = ME,
        port: int = 0,
        more: str = "",
        more_keys: str = "",
        own: str = "",
    ) -> tuple[int, str, str]:
        configured = [f"file:{place}/authorized_keys"] if sources is None else sources
        url = "" if github is None else f'github_url = "{github.url}"\n'
        (place / "config.toml").write_text(
            f'control = "off"\nkeys_dir = "{place}/keys"\naudit_dir = "{place}/audit"\naccount = "nobody"\n'
            f'preauth_account = "{PREAUTH_NAME}"\n'
            f'[listen]\naddress = "127.0.0.1"\nport = {port}\n'
            f'[host_keys]\n{own}\n[keys]\n{url}{more_keys}\ntimeout = "5s"\n'
            f'[[login]]\nuser = "{user}"\nkeys = {json.dumps(configured)}\n{more}'
        )
        before = contents(place)
        code = main.run([*arguments, "--config", str(place / "config.toml")], {})
        assert contents(place) == before, "looking has changed something"
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def keep(place: Path, spec: str, line: bytes) -> Path:
    """Store a last good copy, as a server does."""
    store = place / "keys" / FETCHED_DIRECTORY
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    Copies(store).save(spec, Copy(line + b"\n", 1_700_000_000.0))
    return Copies(store).path(spec)


def test_keys_are_told_without_a_server(run: Run, place: Path, github: FakeGitHub) -> None:
    """Protects the overview when the server is down: it is made of key files and last good copies, without network."""
    keep(place, "github:example", ed25519(3))
    sources = [f"file:{place}/authorized_keys", "github:example"]
    code, out, err = run("keys", "--json", sources=sources, github=github)
    assert code == 0
    assert "this is by the key files and the last good copies on the disk" in err
    report = json.loads(out)
    assert [key["fingerprint"] for key in report["logins"][0]["keys"]] == [fingerprint(ed25519(n)) for n in (1, 3)]
    assert [(source["origin"], source["next_look"]) for source in report["sources"]] == [
        ("fetched", None),
        ("last-good", None),
    ]
    assert not github.requests
    assert f"  {fingerprint(ed25519(1))}  ED25519  file:amos@laptop" in run("keys")[1].splitlines()


def test_what_stands_in_files_is_made_safe(run: Run, place: Path) -> None:
    """Protects the reader's terminal: a key's comment is foreign text, which no server has cleaned here."""
    (place / "authorized_keys").write_bytes(ed25519(1) + b" \x1b[2J\xe2\x80\xae\xff\n")
    for arguments in (("keys",), ("keys", "--json"), ("check",), ("check", "--json")):
        out = run(*arguments)[1]
        assert out.replace("\n", "").isprintable()
        assert "x1b[2J" in out


def test_a_key_is_tested_without_a_server(run: Run, place: Path) -> None:
    """Protects `keys test` when the server is down: the same verdict, with the signature of certificates verified."""
    authority = Authority(place)
    mine = make_key(place, "mine")
    sources = [f"ca:{authority.public}"]
    good = authority.certify(mine.with_name("mine.pub"), principals=ME)
    assert run("keys", "test", str(good), sources=sources)[0] == 0
    forged = place / "forged.pub"
    stranger = Authority(place, "stranger").blob_for(mine.with_name("mine.pub"), principals=ME)
    forged.write_bytes(b"ssh-ed25519-cert-v01@openssh.com " + _with_authority(stranger, authority.blob))
    code, out, _ = run("keys", "test", str(forged), sources=sources)
    assert code == 1
    assert "signature" in out
    assert run("keys", "test", str(mine.with_name("mine.pub")), sources=sources)[0] == 1


def _with_authority(certificate: bytes, authority: bytes) -> bytes:
    """The certificate with `authority` in place of its own authority's key, which has the same length."""
    import binascii

    at = certificate.rindex(b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x20")
    forged = certificate[:at] + authority + certificate[at + len(authority) :]
    return binascii.b2a_base64(forged)


@pytest.fixture
def expired(is_root: bool) -> Iterator[str]:
    """An account that has expired."""
    if not is_root:
        pytest.skip("only root can make accounts, and see when they expire")
    with volume("expired", (EXPIRED,), EXPIRED):
        command = ["/usr/sbin/useradd", "--no-create-home", "--expiredate", "1", EXPIRED]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
        yield EXPIRED


def test_an_account_that_is_closed_is_told(run: Run, place: Path, expired: str) -> None:
    """Protects from a yes that a login would contradict: the key is good, but the account has expired."""
    (place / "id.pub").write_bytes(ed25519(1))
    code, out, err = run("keys", "test", str(place / "id.pub"), user=expired)
    assert (code, f"  {expired}: yes, as " in out) == (1, True)
    assert f"pyssh-gateway: {expired} gets no session: The account {expired} has expired" in err
    code, out, _ = run("check", user=expired)
    assert code == 1
    assert f"! login {expired}: The account {expired} has expired" in out


def test_check_asks_everybody_and_keeps_nothing(run: Run, place: Path, github: FakeGitHub) -> None:
    """Protects a configuration before its use: `check` shows all that would be in force, and stores nothing."""
    code, out, err = run("check", sources=[f"file:{place}/authorized_keys", "github:example"], github=github)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"configuration: {place}/config.toml"
    assert lines[-1] == "nothing is wrong"
    assert f"  {fingerprint(ed25519(2))}  ED25519  github:example" in " ".join(lines).replace("#7", "")
    assert github.requests["example"] == 1
    assert not (place / "keys").exists()


def test_check_finds_all_that_is_wrong(run: Run, place: Path, github: FakeGitHub) -> None:
    """Protects the first start: `check` reports each mistake in files, directories, host keys and sources on a line."""
    github.script("example", status(500))
    (place / "authorized_keys").write_bytes(ed25519(1) + b"\nfrobnicate\n")
    (place / "audit").mkdir()
    (place / "audit").chmod(0o777)
    (place / "keys").mkdir()
    (place / "keys" / "ssh_host_ed25519_key").write_text("no key")
    (place / "keys" / "ssh_host_ed25519_key").chmod(0o600)
    sources = [f"file:{place}/authorized_keys", "github:example", f"file:{place}/missing"]
    code, out, _ = run("check", sources=sources, github=github)
    assert code == 1
    problems = out.split("problems:\n")[1].splitlines()
    assert [problem.split(":")[0] for problem in problems] == [
        f"! key file {place}/missing can't be read",
        "! audit_dir",
        f"! {place}/keys/ssh_host_ed25519_key is not an ed25519 private key in OpenSSH's format",
        "! file",
        "! github",
    ]
    assert problems[3].startswith(f"! file:{place}/authorized_keys: line 2")
    report = json.loads(run("check", "--json", sources=sources, github=github)[1])
    assert report["problems"] == [problem.removeprefix("! ") for problem in problems]


def test_check_names_the_collectors_of_events(run: Run) -> None:
    """Protects the secrecy of the log: one sees where else it goes, and no token."""
    more = '[audit]\nsyslog = "tls://logs.example:6514"\notlp = "https://c.example"\notlp_headers = ["token=sesame"]\n'
    code, out, _ = run("check", more=more)
    assert code == 0
    assert "events are sent, too, by\n  syslog to tls://logs.example:6514\n  OTLP to https://c.example\n" in out
    assert "sesame" not in out


def test_check_sees_a_port_that_is_taken(run: Run) -> None:
    """Protects a start from its most common obstacle: `check` reports a port that is taken, and by which process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, _ = run("check", port=port)
        assert code == 1
        (problem,) = [line for line in out.splitlines() if line.startswith("! ")]
        assert problem.startswith("! listen: ")
        assert problem.endswith(
            f" (process {os.getpid()}) listens on 127.0.0.1:{port}: stop it, or set listen.port or listen.address to "
            "another one"
        )
    assert run("check", port=port)[0] == 0


def test_check_of_a_configuration_for_another_machine(run: Run, place: Path, github: FakeGitHub) -> None:
    """Protects a deployment: `--elsewhere` skips this machine's accounts and files, names them, and checks the rest."""
    sources = [f"ca:{place}/missing", "github:example"]
    code, out, err = run("check", sources=sources, github=github, user="nosuchdev")
    assert code == 1
    assert "check --elsewhere" in out.splitlines()[-1]
    code, out, err = run("check", "--elsewhere", sources=sources, github=github, user="nosuchdev")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert f"  {fingerprint(ed25519(2))}  ED25519  github:example" in " ".join(lines).replace("#7", "")
    assert lines[lines.index("not checked, because it is for another machine:") + 1 : -2] == [
        f"  accounts: nosuchdev, nobody, {PREAUTH_NAME}",
        f"  key files: {place}/missing",
        f"  directories, and the host keys in the first: {place}/keys, {place}/audit",
        "  addresses and ports: 127.0.0.1:0",
    ]
    assert lines[-1] == "nothing is wrong"
    github.script("example", status(404))
    more = 'force_command = "internal-sftp -x"\nchroot = "/srv/%u"\n[[boot.directory]]\npath = "/data/docker"\n'
    report = json.loads(run("check", "--elsewhere", "--json", sources=sources, github=github, more=more)[1])
    assert [problem.split(":")[0] for problem in report["problems"]] == ["login[0].force_command", "github"]
    assert report["unchecked"][-1] == "what is made at boot: /data/docker"
    assert "root directories: /srv/%u" in report["unchecked"]
    assert (report["file"], report["variables"]) == (f"{place}/config.toml", [])


def test_what_is_revoked_and_the_servers_keys_are_looked_at(run: Run, place: Path) -> None:
    """Protects the first start: `check` reports broken revocation lists, and host certificates that are not offered."""
    (place / "revoked").write_bytes(ed25519(1) + b"\n")
    (place / "keys").mkdir(mode=0o700)
    key = make_key(place / "keys", "ssh_host_ed25519_key")
    authority = Authority(place, "hosts")
    certificate = authority.certify(key.with_suffix(".pub"), "-h")
    certificate.rename(place / "keys" / "ssh_host_ed25519_key-cert.pub")
    revoked = f'revoked = "file:{place}/revoked"'
    code, out, _ = run("keys", more_keys=revoked)
    assert code == 0
    assert f"NOT let in: the key is revoked by file:{place}/revoked" in out
    assert f"  {place}/keys/ssh_host_ed25519_key-cert.pub" in out
    assert run("check", more_keys=revoked)[0] == 0

    report = json.loads(run("check", "--json", more_keys=f'revoked = "file:{place}/none"')[1])
    assert report["problems"] == [
        f"file:{place}/none: cannot read {place}/none: No such file or directory; nobody gets in while that is so"
    ]
    other = f'files = ["{place}/other"]'
    (problem,) = json.loads(run("check", "--json", own=other)[1])["problems"]
    assert problem == f"there is no host key {place}/other: host_keys.files names keys that are there already"
    own = f'certificates = ["{authority.public}"]'
    (problem,) = json.loads(run("check", "--json", own=own)[1])["problems"]
    assert problem == (
        f"host certificate {authority.public} is not offered: there is no certificate in OpenSSH's one-line form in it"
    )


def test_copies_that_others_could_have_written_are_not_believed(run: Run, place: Path) -> None:
    """Protects the answer: a copy that the server would not trust is not shown."""
    copy = keep(place, "github:example", ed25519(3))
    assert fingerprint(ed25519(3)) in run("keys", sources=["github:example"])[1]
    copy.chmod(0o666)
    assert fingerprint(ed25519(3)) not in run("keys", sources=["github:example"])[1]
    copy.chmod(0o600)
    kept = copy.rename(place / "elsewhere")
    copy.symlink_to(kept)
    assert fingerprint(ed25519(3)) not in run("keys", sources=["github:example"])[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two accounts")
def test_root_sees_the_copies_of_the_network_side(run: Run, place: Path) -> None:
    """Protects root's view: copies count if they and their directory belong to the account of the network side."""
    copy = keep(place, "github:example", ed25519(3))
    for path in (copy, copy.parent):
        os.chown(path, STRANGER, STRANGER)
    assert fingerprint(ed25519(3)) in run("keys", sources=["github:example"])[1]
    os.chown(copy.parent, 0, 0)
    assert fingerprint(ed25519(3)) not in run("keys", sources=["github:example"])[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two accounts")
def test_whoever_may_not_look_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects against an empty list: an account without the right to look is told so."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "keys" / FETCHED_DIRECTORY).mkdir(parents=True)
        (place / "keys").chmod(0o700)
        (place / "config.toml").write_text(f'control = "off"\nkeys_dir = "{place}/keys"\n')
        os.seteuid(STRANGER)
        try:
            code = main.run(["keys", "--config", str(place / "config.toml")], {})
        finally:
            os.seteuid(0)
    assert code == 1
    assert "run this as root or as the account that starts the server" in capsys.readouterr().err

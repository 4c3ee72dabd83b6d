"""Which accounts may not log in: each file that decides, and its malformed or missing forms."""

import os
import pwd
from pathlib import Path

import pytest

from pyssh_gateway.spawner.processes.account_rules import MAX_MESSAGE_BYTES, may_run_builtin, refusal

TODAY = 20_000
USER = pwd.struct_passwd(("example", "x", 1234, 1234, "", "/home/example", "/bin/sh"))
ROOT = pwd.struct_passwd(("root", "x", 0, 0, "", "/root", "/bin/sh"))


def _with_shell(shell: object) -> pwd.struct_passwd:
    return pwd.struct_passwd((*USER[:6], str(shell)))


def _refusal(directory: Path, entry: pwd.struct_passwd = USER, shadow: str | None = None) -> bytes | None:
    """The refusal on a machine with its files in `directory`; `shadow` follows the names in /etc/shadow."""
    if shadow is not None:
        (directory / "shadow").write_text(f"other:*:1:0:99999:7::1:\nexample:{shadow}\nroot:{shadow}\n")
    nologin = (directory / "nologin", directory / "run-nologin")
    return refusal(entry, today=TODAY, shadow=directory / "shadow", nologin=nologin)


def test_an_ordinary_account_may_log_in(tmp_path: Path) -> None:
    """An ordinary account may log in, and missing files are no obstacle."""
    assert _refusal(tmp_path) is None
    assert _refusal(tmp_path, shadow="$y$hash:19000:0:99999:7:::") is None


@pytest.mark.parametrize("name", ["nologin", "run-nologin"])
def test_a_closed_machine_says_so_to_everybody_but_root(tmp_path: Path, name: str) -> None:
    """nologin refuses everybody with the administrator's text, except root."""
    (tmp_path / name).write_text("Back at noon.")
    assert _refusal(tmp_path) == b"Back at noon.\n"
    assert _refusal(tmp_path, ROOT) is None


def test_a_nologin_file_counts_whatever_is_in_it(tmp_path: Path) -> None:
    """An empty or odd /etc/nologin also closes the machine, and the user is told why the session ends."""
    path = tmp_path / "nologin"
    path.touch()
    assert str(path).encode() in (_refusal(tmp_path) or b"")
    path.unlink()
    path.mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert str(path).encode() in (_refusal(tmp_path) or b"")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    path.rmdir()
    os.mkfifo(path)
    assert str(path).encode() in (_refusal(tmp_path) or b"")


def test_a_long_nologin_file_is_cut(tmp_path: Path) -> None:
    """The message is cut to a limit, as it is sent through the monitor."""
    (tmp_path / "nologin").write_bytes(b"x" * 100_000)
    message = _refusal(tmp_path)
    assert message is not None
    assert len(message) == MAX_MESSAGE_BYTES + 1


@pytest.mark.parametrize(
    ("shadow", "closed"),
    [
        (f"*:19000:0:99999:7::{TODAY + 1}:", False),
        (f"*:19000:0:99999:7::{TODAY}:", True),
        (f"*:19000:0:99999:7::{TODAY - 1}:", True),
        ("*:19000:0:99999:7::0:", True),
        ("*:19000:0:99999:7::-1:", False),
        ("!:19000:0:99999:7:::", False),
        ("*", False),
        ("*:::::::", False),
        ("*:x:x:x:x:x:x:x", False),
    ],
)
def test_an_account_is_closed_from_its_expiry_date_on(tmp_path: Path, shadow: str, closed: bool) -> None:
    """`chage -E` and `usermod --expiredate` count, also for root, and no other field is taken for the date."""
    for entry in (USER, ROOT):
        message = _refusal(tmp_path, entry, shadow)
        assert (message is not None) == closed
        if message is not None:
            assert b"expired" in message
            assert entry.pw_name.encode() in message


@pytest.mark.parametrize(
    ("shadow", "closed"),
    [
        (f"*:{TODAY - 100}:0:90:7:9::", True),
        (f"*:{TODAY - 100}:0:90:7:10::", False),
        (f"*:{TODAY - 100}:0:90:7:::", False),
        (f"*:{TODAY - 100}:0::7:0::", False),
        ("*:0:0:90:7:0::", False),
        ("*::0:90:7:0::", False),
    ],
)
def test_an_account_is_closed_when_the_inactivity_period_is_over(tmp_path: Path, shadow: str, closed: bool) -> None:
    """An expired password alone does not refuse a login with a key; the inactivity period of `chage -I` does."""
    assert (_refusal(tmp_path, shadow=shadow) is not None) == closed


def test_a_shadow_file_that_is_not_ours_to_read_has_no_say(tmp_path: Path) -> None:
    """A server without root's rights can't read /etc/shadow, and must still let its own account in."""
    (tmp_path / "shadow").mkdir()
    assert _refusal(tmp_path) is None


def test_another_accounts_line_is_not_mistaken(tmp_path: Path) -> None:
    """The line of an account with a similar name is not used."""
    (tmp_path / "shadow").write_text("example2:*:1:0:99999:7::1:\nexampl:*:1:0:99999:7::1:\n")
    assert _refusal(tmp_path) is None


def test_a_shell_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing shell is named: on a new machine that is the most common reason, such as zsh missing in the image."""
    missing = tmp_path / "zsh"
    assert _refusal(tmp_path, _with_shell(missing)) == f"This account's shell, {missing}, does not exist.\n".encode()
    assert b"does not exist" in (_refusal(tmp_path, _with_shell("/bin/sh\0")) or b"")


def test_a_shell_that_can_not_be_run_is_named(tmp_path: Path) -> None:
    """As in sshd, a shell that is not a file, or that nobody can execute, is refused."""
    plain = tmp_path / "plain"
    plain.touch(0o644)
    for shell in (plain, tmp_path):
        assert _refusal(tmp_path, _with_shell(shell)) == f"This account's shell, {shell}, is not executable.\n".encode()
    plain.chmod(0o744)
    assert _refusal(tmp_path, _with_shell(plain)) is None


def test_an_account_without_a_shell_has_the_default_one(tmp_path: Path) -> None:
    """passwd(5): an empty field means /bin/sh."""
    assert _refusal(tmp_path, _with_shell("")) is None


@pytest.mark.parametrize(
    ("shell", "allowed"),
    [
        ("/bin/sh", True),
        ("", True),
        ("/bin/bash", True),
        ("/usr/local/bin/fish", True),
        ("/nix/store/abc-zsh-5.9/bin/zsh", True),
        ("/opt/known", True),
        ("/opt/menu", False),
        ("/usr/bin/scponly", False),
        ("/bin/rbash", False),
        ("/usr/sbin/nologin", False),
        ("/bin/false", False),
        ("/usr/bin/git-shell", False),
        ("/bin/bas", False),
    ],
)
def test_ordinary_shells_may_use_the_built_in_servers(tmp_path: Path, shell: str, allowed: bool) -> None:
    """The built-in servers need a shell known to run any command: by its name in any directory, or by /etc/shells."""
    shells = tmp_path / "shells"
    shells.write_text(
        "# shells\n/bin/sh\n  /opt/known # ours\n#/opt/menu\n/bin/false\n/bin/rbash\n/usr/bin/git-shell\n"
    )
    assert may_run_builtin(shell, shells) is allowed


def test_without_a_list_only_names_count(tmp_path: Path) -> None:
    """Without /etc/shells, as in small images, or with an unreadable one, only the shell's name counts."""
    for shells in (tmp_path / "shells", tmp_path):
        assert may_run_builtin("/usr/bin/fish", shells)
        assert not may_run_builtin("/usr/sbin/nologin", shells)
        assert not may_run_builtin("/opt/menu", shells)


def test_this_machines_own_files_can_be_read() -> None:
    """The default paths are right: on this machine the account that runs the tests may log in."""
    entry = pwd.getpwuid(os.getuid())
    assert refusal(entry, today=TODAY, nologin=()) is None

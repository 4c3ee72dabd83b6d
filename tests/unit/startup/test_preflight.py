"""Problems with the account that serves strangers, and with other settings, and how they are reported."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from pyssh_gateway.config.types import Config, Keys, Login
from pyssh_gateway.startup import preflight

ROOT = pwd.getpwnam("root")

MADE = "useradd --system --no-create-home --shell /usr/sbin/nologin pyssh-preauth"

Accounts = Callable[..., None]


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """Gives the machine accounts: `accounts(amos=1000)`."""

    def give(**uids: int) -> None:
        entries = {
            name.replace("_", "-"): pwd.struct_passwd((name.replace("_", "-"), "x", uid, uid, "", "/", "/bin/sh"))
            for name, uid in {"root": 0, "nobody": 65534, **uids}.items()
        }
        monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)

    return give


def problems(preauth_account: str = Config().preauth_account) -> list[str]:
    """The problems of a configuration whose login account is `amos`."""
    login = (Login(user="amos", keys=("file:/k",)),)
    return preflight.preauth_account_problems(Config(login=login, preauth_account=preauth_account))


def test_an_account_of_its_own_is_fine(accounts: Accounts) -> None:
    """The defaults are fine, with the monitor's account or its fallback, and with a login account not made yet."""
    accounts(pyssh_gateway=998, pyssh_preauth=997, amos=1000)
    assert problems() == []
    accounts(pyssh_preauth=997)
    assert problems() == []


def test_a_missing_one_is_said_with_the_remedy(accounts: Accounts) -> None:
    """A missing account is reported with the command that makes it."""
    accounts(pyssh_gateway=998, amos=1000)
    (problem,) = problems()
    assert problem == f"preauth_account: there is no account pyssh-preauth on this machine: make it with {MADE}"
    (problem,) = problems(preauth_account="strangers")
    assert problem.endswith("make it with useradd --system --no-create-home --shell /usr/sbin/nologin strangers")


@pytest.mark.parametrize(
    ("uid", "whose"),
    [(0, "root"), (998, "pyssh-gateway"), (1000, "amos")],
)
def test_another_name_of_a_uid_is_no_other_account(accounts: Accounts, uid: int, whose: str) -> None:
    """Two names of one uid are one account to the kernel: a stranger's process could do whatever the other may."""
    accounts(pyssh_gateway=998, pyssh_preauth=uid, amos=1000)
    (problem,) = problems()
    assert problem == (
        f"preauth_account: strangers can't be served as pyssh-preauth: its uid, {uid}, is that of {whose} as well; "
        f"name an account of its own, made with {MADE}"
    )


@pytest.mark.parametrize("name", ["root", "pyssh-gateway", "amos", "nobody"])
def test_an_account_that_has_another_use_is_refused(accounts: Accounts, name: str) -> None:
    """The same name is reported as such, and not as a shared uid. `nobody` replaces a missing `account`."""
    if name == "nobody":
        accounts(amos=1000)
    else:
        accounts(pyssh_gateway=998, amos=1000)
    (problem,) = problems(preauth_account=name)
    assert problem == (
        f"preauth_account: strangers can't be served as {name}; name an account of its own, made with {MADE}"
    )


def test_an_ordinary_account_is_not_asked_for_one(
    monkeypatch: pytest.MonkeyPatch, accounts: Accounts, tmp_path: Path
) -> None:
    """A server of an ordinary account needs no such account, since all its processes run as that account."""
    accounts(amos=1000)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    config = Config(keys_dir=str(tmp_path), audit_dir=str(tmp_path))
    assert preflight.place_problems(config) == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [line.partition(":")[0] for line in preflight.place_problems(config)] == ["preauth_account"]


@pytest.mark.parametrize(
    ("account", "preauth_account", "keys"),
    [
        ("pyssh-gateway", "pyssh-preauth", []),
        ("amos", "pyssh-preauth", ["account"]),
        ("pyssh-gateway", "root", ["preauth_account"]),
        ("shared", "shared", ["preauth_account"]),
    ],
)
def test_names_alone_tell_what_can_be_on_no_machine(account: str, preauth_account: str, keys: list[str]) -> None:
    """Names alone show that one account has two roles, as in a configuration for another machine."""
    login = (Login(user="amos", keys=("file:/k",)),)
    found = preflight.name_problems(Config(login=login, account=account, preauth_account=preauth_account))
    assert [problem.partition(":")[0] for problem in found] == keys


def test_a_chroot_that_can_not_be_entered(accounts: Accounts, tmp_path: Path) -> None:
    """`check` reports a chroot that every session would fail in, by the login's index, but not for missing accounts."""
    accounts(amos=1000)
    jail = Login(user="amos", keys=("github:amos",), chroot=f"{tmp_path}/%u")
    config = Config(login=(Login(user="amos", keys=("github:amos",)), jail, Login("new", jail.keys, chroot="/no")))
    (problem,) = preflight.chroot_directory_problems(config)
    assert problem.startswith("login[1].chroot: /")
    assert preflight.chroot_directory_problems(Config(login=(Login("amos", jail.keys, chroot="/"),))) == []


def test_a_chroot_takes_root_and_sftp(monkeypatch: pytest.MonkeyPatch, accounts: Accounts) -> None:
    """Settings that would fail in each session, or have no effect, are reported before the start."""
    accounts(amos=1000)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: pwd.getpwnam("amos"))
    login = Login(user="amos", keys=("github:amos",), chroot="/srv", force_command="sh")
    config = Config(login=(login,))
    assert preflight.config_problems(config) == [
        "login[0].force_command: with chroot it is internal-sftp, or left out: no program runs there"
    ]
    assert preflight.login_problems(config) == [
        "login[0].chroot: only a server that root starts can have it, and amos is not root"
    ]


def test_a_list_of_what_is_revoked_is_judged_before_it_is_needed(tmp_path: Path) -> None:
    """A reload and `check` report unusable lists and why; no account may own one, even if it owns a key file."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("# nobody\n")
    bad.write_text("nonsense\n")
    lists = tuple(f"file:{path}" for path in (good, bad, tmp_path / "none"))
    config = Config(login=(Login(user="amos", keys=(f"file:{good}", "file:/k")),), keys=Keys(revoked=lists))
    assert list(preflight.revoked_list_problems(config).values()) == [
        f"keys.revoked: {bad} can't be used: line 1 is no public key in OpenSSH's one-line form (without options)",
        f"keys.revoked: {tmp_path / 'none'} can't be used: No such file or directory",
    ]
    assert preflight.revoked_list_problems(Config()) == {}
    files = preflight.readable_files(config)
    assert (files["/k"], files[str(good)]) == (frozenset({"amos"}), frozenset())

"""`serve --trial`, which `make run` uses: a server for one person who tries it out, without a configuration.

It chooses the account and the keys for the login from the account that started the server. Nobody else can get in: the
keys are those that this person, or the account that is logged in to, has on this machine already.
"""

import os
import pwd
import subprocess
from pathlib import Path

from pyssh_gateway.startup.preflight import MAKE_ACCOUNT

DEMO_KEY_NAME = "demo_ed25519"
DEFAULT_ACCOUNT = "dev"
"""The account to log in to in root's trial, as in the image: a trial should not give a shell as root."""

FIRST_UID = 1000
"""The lowest uid of people's accounts: UID_MIN of login.defs(5), with the value of shadow and Debian."""

USERADD_SECONDS = 30
"""Timeout for useradd, which copies /etc/skel and updates a few files; if it takes longer, the machine is faulty."""

_NO_SHELLS = frozenset({"nologin", "false", "sync"})


class TrialError(Exception):
    """The trial can't be set up; the text is one line that says what to do."""


class Trial:
    """A trial's addition to the configuration: `login` for its `[[login]]`, the private key to use (or ""), remarks."""

    def __init__(self, user: str, keys: list[str], identity: str, remarks: list[str]) -> None:
        self.login: dict[str, object] = {"user": user, "keys": keys}
        self.identity = identity
        self.remarks = remarks


def set_up(user: str | None, github: str | None, keys_dir: Path, sudo_user: str = "") -> Trial:
    """The trial's login, with keys from the first of these sources that exists.

    The GitHub account `github`; keys of the account that is logged in to, then of the account that started the server
    (`~/.ssh/authorized_keys`, where cloud machines have a person's keys, and `~/.ssh/*.pub`); a demo key pair in
    `keys_dir`. The account is `user`. If root starts the server, `user` may be left out, and is then `sudo_user`, the
    account that has become root by sudo, or else `DEFAULT_ACCOUNT`; and a missing account is made.
    """
    remarks: list[str] = []
    account = _account(user, sudo_user, remarks)
    if github is not None:
        return Trial(account, [f"github:{github}"], "", remarks)
    homes = [Path(home) for home in dict.fromkeys((pwd.getpwnam(account).pw_dir, str(_home())))]
    for home in homes:
        found = _own_keys(home, account, remarks)
        if found:
            return Trial(account, [f"file:{path}" for path in found], "", remarks)
    demo = _demo_key(keys_dir, " or ".join(f"{home}/.ssh" for home in homes), remarks)
    return Trial(account, [f"file:{demo.resolve()}.pub"], str(demo), remarks)


def _own_keys(home: Path, account: str, remarks: list[str]) -> list[Path]:
    """The files in `home`/.ssh with keys that can get a shell of `account`."""
    places = [home / ".ssh" / "authorized_keys", *sorted(Path(home, ".ssh").glob("*.pub"))]
    usable = []
    for path in places:
        if path.name.endswith("-cert.pub") or not path.exists():
            continue
        problem = _problem_of(path, account)
        if problem:
            remarks.append(f"{path} is left out: {problem}")
        else:
            usable.append(path)
    return usable


def _problem_of(path: Path, account: str) -> str:
    """Why the keys in `path` can't get a shell of `account`; empty if they can."""
    # Late: trials only.
    from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES, parse
    from pyssh_gateway.spawner.key_files import open_trusted

    try:
        with os.fdopen(open_trusted(str(path), [account]), "rb") as file:
            text = file.read(MAX_KEYS_BYTES + 1)
    except OSError as error:
        return error.strerror or str(error)
    keys = parse(text, f"file:{path}", allow_options=True).accepted
    if not keys:
        return "there is no usable public key in it"
    # Cloud images put a person's key into root's file with a command that only says which account to use.
    if all(key.options.command is not None for key in keys):
        return "its keys may run one command only"
    return ""


def _account(user: str | None, sudo_user: str, remarks: list[str]) -> str:
    me = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() != 0:
        if user not in {None, me}:
            raise TrialError(f"started by {me}, only {me} can log in: leave USER_NAME out, or start as root for {user}")
        return me
    chosen = user or _account_for_root(sudo_user)
    if user is None:
        remarks.append(f"started by root: the account to log in to is {chosen}; USER_NAME=<account> names another")
    try:
        pwd.getpwnam(chosen)
    except KeyError:
        _create_account(chosen)
        remarks.append(f"made the account {chosen}; to remove it: userdel --remove {chosen}")
    return chosen


def _account_for_root(sudo_user: str) -> str:
    """The account to log in to if root names none: the one behind sudo, else `DEFAULT_ACCOUNT` if it is a person's."""
    try:
        if sudo_user and _is_a_persons(pwd.getpwnam(sudo_user)):
            return sudo_user
    except KeyError:
        pass  # a leftover in the environment
    try:
        there = pwd.getpwnam(DEFAULT_ACCOUNT)
    except KeyError:
        return DEFAULT_ACCOUNT
    if not _is_a_persons(there):
        raise TrialError(
            f"started by root, this would let in to {DEFAULT_ACCOUNT}, which is no account for a person here: "
            "name another, make run USER_NAME=<account> (made if it is missing)"
        )
    return DEFAULT_ACCOUNT


def _is_a_persons(entry: pwd.struct_passwd) -> bool:
    return entry.pw_uid >= FIRST_UID and entry.pw_shell.rpartition("/")[2] not in _NO_SHELLS


def make_preauth_account(name: str) -> str | None:
    """Make the account of preauth processes, if root has started the server and it is missing; a remark if made."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(name)
    except KeyError:
        _useradd(name, *MAKE_ACCOUNT.split()[1:])
        return f"made the account {name}, which serves connections until they have logged in"
    return None


def _create_account(user: str) -> None:
    _useradd(user, "--create-home", "--shell", "/bin/bash")


def _useradd(user: str, *options: str) -> None:
    command = ["useradd", *options, "--", user]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=USERADD_SECONDS)
    except FileNotFoundError:
        raise TrialError(f"there is no account {user} and no useradd to make it with: make it by hand") from None
    except subprocess.TimeoutExpired:
        raise TrialError(f"useradd has not made the account {user} within {USERADD_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise TrialError(f"useradd can't make the account {user}: {error.stderr.strip()}") from None


def _home() -> Path:
    """The home directory of the account that started the server; under sudo that is root's."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def _demo_key(keys_dir: Path, looked: str, remarks: list[str]) -> Path:
    from pyssh_gateway.keys.host_keys import HostKeyError, create_key_pair  # late: cryptography, needed here only

    path = keys_dir / DEMO_KEY_NAME
    try:
        create_key_pair(path, "pyssh-gateway demo key")
    except FileExistsError:
        remarks.append(f"no public key in {looked}: using the demo key pair {path}")
    except HostKeyError as error:
        raise TrialError(str(error)) from None
    else:
        remarks.append(f"no public key in {looked}: made a demo key pair, {path}; anybody who has that file gets in")
    return path

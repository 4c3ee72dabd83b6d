"""`serve --trial`, which `make run` uses: a server for the one person who is trying it out, without a configuration.

Decides who may log in with what, from the account that started us. Nothing is guessed that would let in anybody else:
root has to name an account.
"""

import os
import pwd
import subprocess
from pathlib import Path

from pyssh_gateway.startup.preflight import MAKE_ACCOUNT

DEMO_KEY_NAME = "demo_ed25519"
USERADD_SECONDS = 30
"""useradd copies /etc/skel and updates a few files; a machine on which that takes longer has another problem."""


class TrialError(Exception):
    """The trial can't be set up; one line that says what to do."""


class Trial:
    """What a trial adds to the configuration: `login` for its `[[login]]`, the private key to use (or ""), remarks."""

    def __init__(self, user: str, keys: list[str], identity: str, remarks: list[str]) -> None:
        self.login: dict[str, object] = {"user": user, "keys": keys}
        self.identity = identity
        self.remarks = remarks


def set_up(user: str | None, github: str | None, keys_dir: Path) -> Trial:
    """The trial's login: `user` (root has to name one) with keys from the first of these that there is.

    The GitHub account `github`; the public keys in our own ~/.ssh; a demo key pair in `keys_dir`.
    """
    remarks: list[str] = []
    account = _account(user, remarks)
    if github is not None:
        return Trial(account, [f"github:{github}"], "", remarks)
    own = sorted(path for path in Path(_home(), ".ssh").glob("*.pub") if not path.name.endswith("-cert.pub"))
    if own:
        return Trial(account, [f"file:{path}" for path in own], "", remarks)
    demo = _demo_key(keys_dir, remarks)
    return Trial(account, [f"file:{demo.resolve()}.pub"], str(demo), remarks)


def _account(user: str | None, remarks: list[str]) -> str:
    me = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() != 0:
        if user not in {None, me}:
            raise TrialError(f"started by {me}, only {me} can log in: leave USER_NAME out, or start as root for {user}")
        return me
    if user is None:
        raise TrialError(
            "started by root, this needs the account to log in to: make run USER_NAME=<account> (made if it is missing)"
        )
    try:
        pwd.getpwnam(user)
    except KeyError:
        _create_account(user)
        remarks.append(f"made the account {user}")
    return user


def make_preauth_account(name: str) -> str | None:
    """Make the account that serves strangers, if root has started us and it is missing; a remark if it was made."""
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
    """The home directory of whoever started us; under sudo that is root's, whose keys these would then be."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def _demo_key(keys_dir: Path, remarks: list[str]) -> Path:
    from pyssh_gateway.keys.host_keys import HostKeyError, create_key_pair  # late: cryptography, needed here only

    path = keys_dir / DEMO_KEY_NAME
    try:
        create_key_pair(path, "pyssh-gateway demo key")
    except FileExistsError:
        remarks.append(f"no public key in {_home()}/.ssh: using the demo key pair {path}")
    except HostKeyError as error:
        raise TrialError(str(error)) from None
    else:
        remarks.append(
            f"no public key in {_home()}/.ssh: made a demo key pair, {path}; it lets in whoever has that file"
        )
    return path

"""The checks before anything runs: accounts, key files, directories, the network side's account.

All problems are found and reported together, by a start, by `check`, and by a reload.
"""

import os
import pwd
from collections.abc import Collection, Mapping
from contextlib import suppress

from pyssh_gateway.config.types import Config
from pyssh_gateway.system.accounts import monitor_account

MAKE_ACCOUNT = "useradd --system --no-create-home --shell /usr/sbin/nologin"
"""The command that makes an account for a process; the account's name follows."""

_EVERYBODY_MAY_WRITE = 0o002


def start_problems(config: Config) -> tuple[list[str], Mapping[str, str]]:
    """The problems that prevent a start with `config`, a line each; and the key files to skip, with the reasons.

    Unusable key files are skipped if other keys let somebody in: many a key file belongs to an account, which must not
    be able to lock everybody else out by damaging it.
    """
    unusable = unusable_key_files(config)
    passed_over = unusable if others_let_in(config, unusable) else {}
    problems = config_problems(config) + login_problems(config, passed_over) + place_problems(config)
    return problems, passed_over


def config_problems(config: Config) -> list[str]:
    """The problems of `config` that do not depend on the machine, beyond those of the parser, a line each."""
    # Late: not needed before the socket is bound.
    from pyssh_gateway.core.login_rules import chroot_problems
    from pyssh_gateway.core.transfers.sftp_options import problem_of

    problems: list[str] = []
    if not config.login:
        problems.append("nobody may log in: add a [[login]] with user and keys to the configuration")
    for index, login in enumerate(config.login):
        if problem := problem_of(login.force_command.encode("utf-8", "surrogateescape")):
            problems.append(f"login[{index}].force_command: {problem}")
        problems += [f"login[{index}].{problem}" for problem in chroot_problems(login)]
    if config.stop.action == "command" and not config.stop.command.strip():
        problems.append('stop.command: missing; stop.action = "command" needs one, such as systemctl poweroff')
    return problems


def login_problems(config: Config, passed_over: Collection[str] = ()) -> list[str]:
    """The problems of the accounts and key files that `config` names, a line each; without the files `passed_over`."""
    me = pwd.getpwuid(os.geteuid())
    made_at_boot = _made_at_boot(config)
    problems: list[str] = []
    for index, login in enumerate(config.login):
        where = f"login[{index}]"
        if login.chroot and me.pw_uid != 0:
            problems.append(f"{where}.chroot: only a server that root starts can have it, and {me.pw_name} is not root")
        try:
            entry = pwd.getpwnam(login.user)
        except KeyError:
            if login.user not in made_at_boot:
                why = f"there is no account {login.user} on this machine; make it, or name another"
                problems.append(f"{where}.user: {why}")
            continue
        if me.pw_uid not in {0, entry.pw_uid}:
            problems.append(f"{where}.user: started by {me.pw_name}, only {me.pw_name} can log in, not {login.user}")
    return problems + list(key_file_problems(config, passed_over).values())


def chroot_directory_problems(config: Config) -> list[str]:
    """The root directories of logins that their sessions could not enter now. This does not prevent a start."""
    from pyssh_gateway.core.transfers.sftp_options import expanded
    from pyssh_gateway.spawner.processes import chroot

    problems = []
    for index, login in enumerate(config.login):
        if login.chroot and _is_there(login.user):
            entry = pwd.getpwnam(login.user)
            home = os.fsencode(entry.pw_dir)
            path = expanded(os.fsencode(login.chroot), user=entry.pw_name, uid=entry.pw_uid, home=home)
            if problem := chroot.problem(path):
                problems.append(f"login[{index}].chroot: {problem}")
    return problems


def key_file_problems(config: Config, passed_over: Collection[str] = ()) -> dict[str, str]:
    """The key files that can't be read or trusted, without those `passed_over`, and a line about each.

    While an account is still to be made, ownership can't be checked: then nothing is checked here, but later.
    """
    from pyssh_gateway.spawner.key_files import open_trusted  # late: not needed before the socket is bound

    problems: dict[str, str] = {}
    users_made = {login.user for login in config.login} & _made_at_boot(config)
    if not all(_is_there(user) for user in users_made):
        return problems
    for path, users in key_files(config).items():
        if path in passed_over:
            continue
        try:
            os.close(open_trusted(path, users))
        except OSError as error:
            problems[path] = f"key file {path} can't be read: {error.strerror or error}"
    return problems


def _made_at_boot(config: Config) -> set[str]:
    """The accounts that are made at boot if they are missing; none without root."""
    return {account.user for account in config.boot.account} if os.geteuid() == 0 else set()


def _is_there(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def unusable_key_files(config: Config) -> dict[str, str]:
    """The key files that can't be read or trusted now, and why: the end of a sentence that names the file."""
    from pyssh_gateway.spawner.key_files import open_trusted  # late: not needed before the socket is bound

    there = {entry.pw_name for entry in pwd.getpwall()} if config.boot.account else set()
    to_come = {account.user for account in config.boot.account} - there
    unusable = {}
    for path, users in key_files(config).items():
        try:
            os.close(open_trusted(path, users))
        except FileNotFoundError:
            unusable[path] = "is not there"
        except OSError as error:
            if not users & to_come:  # ownership can't be checked for accounts that are still to be made
                unusable[path] = f"can't be read: {error.strerror or error}"
    return unusable


def others_let_in(config: Config, unusable: Collection[str]) -> bool:
    """Whether there are other keys than those in `unusable`: then a start without these is better than none."""
    specs = [spec for login in config.login for spec in login.keys]
    return any(
        kind not in {"file", "ca"} or path not in unusable for kind, _, path in (s.partition(":") for s in specs)
    )


def place_problems(config: Config) -> list[str]:
    """The problems of the state directories, the time zone, and the accounts of the server's own processes."""
    problems = []
    for key, directory in (("keys_dir", config.keys_dir), ("audit_dir", config.audit_dir)):
        try:
            mode = os.stat(directory).st_mode  # noqa: PTH116 - pathlib would take longer to import than all of this
        except OSError:
            continue  # it is made when it is needed; a failure is reported then
        if mode & _EVERYBODY_MAY_WRITE:
            problems.append(f"{key}: everybody may write to {directory}: run chmod o-w {directory}")
    problems += host_key_place_problems(config)
    if config.idle.schedule:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # late: schedules only

        try:
            ZoneInfo(config.idle.timezone)
        except (ZoneInfoNotFoundError, OSError):
            problems.append(f"idle.timezone: this machine does not know {config.idle.timezone}: install tzdata")
    if os.geteuid() == 0:
        problems += account_problems(config) + preauth_account_problems(config)
    return problems


def name_problems(config: Config) -> list[str]:
    """The problems that the accounts' names alone show, on any machine, for a server that root starts.

    Each of the server's own accounts must differ from root, from the logins' and from the other one.
    """
    users, problems = {"root", *(login.user for login in config.login)}, []
    if config.account in users:
        problems.append(f"account: the network side can't run as {config.account}: name an account of its own")
    if config.preauth_account in users | {config.account}:
        others = f"preauth_account: strangers can't be served as {config.preauth_account}"
        problems.append(f"{others}; name an account of its own, made with {MAKE_ACCOUNT} pyssh-preauth")
    return problems


def account_problems(config: Config) -> list[str]:
    """Why the network side can't run as its account: it is missing, or it is root's or a login's, by name or by uid."""
    others = {"root", *(login.user for login in config.login)}
    if config.account in others:
        return [f"account: the network side can't run as {config.account}: name an account of its own"]
    try:
        account = monitor_account(config.account)
    except KeyError:
        return [f"account: there is no account {config.account} on this machine: make it"]
    for name in sorted(others):
        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue  # made at boot, with a uid that nobody has
        if uid == account.pw_uid:
            stands_in = "" if account.pw_name == config.account else f", which stands in for {config.account}"
            problem = f"can't run as {account.pw_name}{stands_in}: its uid, {uid}, is that of {name} as well"
            return [f"account: the network side {problem}; make an account of its own"]
    return []


def preauth_account_problems(config: Config) -> list[str]:
    """Why `preauth_account` can't serve connections before login: it must be an account of its own, by name and uid."""
    name = config.preauth_account
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        return [f"preauth_account: there is no account {name} on this machine: make it with {MAKE_ACCOUNT} {name}"]
    others = ["root", *(login.user for login in config.login)]
    with suppress(KeyError):  # reported by `account_problems`
        others.append(monitor_account(config.account).pw_name)
    for other in others:
        try:
            same = pwd.getpwnam(other).pw_uid == uid
        except KeyError:
            continue  # made at boot, with a uid that nobody has
        if same:
            whose = "" if other == name else f": its uid, {uid}, is that of {other} as well"
            remedy = f"name an account of its own, made with {MAKE_ACCOUNT} pyssh-preauth"
            return [f"preauth_account: strangers can't be served as {name}{whose}; {remedy}"]
    return []


def host_key_place_problems(config: Config) -> list[str]:
    """Why a missing host key could not be made and kept. Without this check, each start would have another one."""
    directory = config.keys_dir
    if os.access(directory, os.W_OK | os.X_OK) or not os.access(directory, os.F_OK):
        return []
    from pathlib import Path  # late: only for a machine with a problem

    from pyssh_gateway.keys.host_keys import key_path

    if not Path(directory).is_dir():
        return [f"keys_dir: {directory} is not a directory"]
    try:
        missing = [kind for kind in config.host_keys.types if not key_path(Path(directory), kind).exists()]
    except OSError as error:
        return [f"keys_dir: {directory} can't be read: {error.strerror}"]
    if not missing:
        return []
    return [f"keys_dir: {directory}: Permission denied; there is no {missing[0]} host key, and none can be made"]


def revoked_list_problems(config: Config) -> dict[str, str]:
    """The revocation lists that can't be used now, and why. While there is one, nobody can log in.

    This does not prevent a start: one of the server's own services may be what fetches the list.
    """
    if not config.keys.revoked_lists:
        return {}
    from pyssh_gateway.core.access.revoked_list import MAX_BYTES, RevokedListError, parse
    from pyssh_gateway.spawner.key_files import open_trusted

    problems = {}
    for path in revoked_files(config):
        try:
            with os.fdopen(open_trusted(path, ()), "rb") as file:
                parse(file.read(MAX_BYTES + 1))
        except (OSError, RevokedListError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            problems[path] = f"keys.revoked: {path} can't be used: {reason or error}"
    return problems


def readable_files(config: Config) -> dict[str, frozenset[str]]:
    """The files that the spawner may open for the monitor, and which accounts beside root may own each.

    No account may own a revocation list, because it could remove its own key from it. Nor a host certificate.
    """
    files = (*revoked_files(config), *(path for path, _ in certificate_files(config)))
    return key_files(config) | dict.fromkeys(files, frozenset())


def certificate_files(config: Config) -> tuple[tuple[str, bool], ...]:
    """The paths of the host keys' certificates, and whether each has to exist.

    Certificates named in the configuration have to exist; the others are optional, and lie beside their keys, where
    ssh-keygen puts them.
    """
    from pathlib import Path  # late, as below

    from pyssh_gateway.keys.host_keys import certificate_path, key_path

    keys = [key_path(Path(config.keys_dir).absolute(), kind) for kind in config.host_keys.types]
    named = dict.fromkeys(config.host_keys.certificates, True)
    beside = [str(certificate_path(path)) for path in (*keys, *map(Path, config.host_keys.files))]
    return (*named.items(), *((path, False) for path in dict.fromkeys(beside) if path not in named))


def revoked_files(config: Config) -> tuple[str, ...]:
    """The revocation lists."""
    return tuple(spec.partition(":")[2] for spec in config.keys.revoked_lists)


def key_files(config: Config) -> dict[str, frozenset[str]]:
    """The files that `file:` and `ca:` sources name, and the accounts that the keys in each can log in to."""
    files: dict[str, frozenset[str]] = {}
    for login in config.login:
        for kind, _, path in (spec.partition(":") for spec in login.keys):
            if kind in {"file", "ca"}:
                files[path] = files.get(path, frozenset()) | {login.user}
    return files

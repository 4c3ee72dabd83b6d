"""Obstacles to a login: accounts, their shells and homes, and the keys for them."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from pyssh_gateway.cli import offline
from pyssh_gateway.cli.accounts import closed
from pyssh_gateway.cli.doctor.finding import Finding, ok, problem, unknown, warning
from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.output import text
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.control import LoginReport, SourceReport
from pyssh_gateway.keys.sources import LOCAL_KINDS
from pyssh_gateway.startup.preflight import config_problems, key_file_problems, login_problems

ACCOUNTS = "accounts"
KEYS = "keys"

MAKE_IT = "make the account (useradd --create-home NAME), name another one in [[login]], or start the server as root"
OWN_IT = "let it, and the directories above it, be root's or the account's and writable for nobody else: docs/keys.md"
MAKE_FILE = "put public keys there, a line each, or name another file in `keys` of the [[login]]"
AS_ROOT = "run this as root"

REMEDIES = {
    "github": "open https://github.com/LOGIN.keys on this machine; behind a proxy, set keys.https_proxy",
    "github-team": "keys.github_token has to be a token with read:org; behind a proxy, set keys.https_proxy",
    "file": OWN_IT,
    "ca": OWN_IT,
}
"""The hint for a source that gives no keys, by its kind."""

ANY_REMEDY = "open its page of keys on this machine; behind a proxy, set keys.https_proxy"


def look_at_accounts(config: Config) -> Iterator[Finding]:
    """A finding for each account that people log in to."""
    for each in config_problems(config):
        yield problem(ACCOUNTS, each, "correct the configuration: docs/configuration.md")
    files = set(key_file_problems(config).values())
    for each in login_problems(config):
        if each not in files:  # problems of key files are reported with the keys
            yield problem(ACCOUNTS, each, MAKE_IT)
    for login in config.login:
        try:
            entry = pwd.getpwnam(login.user)
        except KeyError:
            continue  # reported above, or made at boot
        told = closed(login.user)
        if told:
            hint = "root lifts it: chage --expiredate -1 NAME, chsh --shell /bin/bash NAME, or remove the nologin file"
            yield problem(ACCOUNTS, f"{login.user} gets no session: {told}", hint)
        else:
            yield _home(entry) or ok(ACCOUNTS, f"{login.user} can have sessions, in {entry.pw_dir}")
    if os.geteuid() != 0 and config.login:
        yield unknown(ACCOUNTS, "whether an account has expired is in /etc/shadow, which only root can read", AS_ROOT)


def _home(entry: pwd.struct_passwd) -> Finding | None:
    """The problem of an account's home; None if it has none."""
    try:
        found = Path(entry.pw_dir).stat()
    except OSError as error:
        hint = f"sessions begin in / without it: install -d -o {entry.pw_name} -m 700 {entry.pw_dir}"
        return warning(ACCOUNTS, f"the home of {entry.pw_name}, {entry.pw_dir}: {error.strerror}", hint)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {0, entry.pw_uid}:
        hint = f"make it a directory of the account's: chown {entry.pw_name} {entry.pw_dir}"
        return warning(ACCOUNTS, f"{entry.pw_dir}, the home of {entry.pw_name}, is not its own", hint)
    return None


def look_at_keys(config: Config) -> Iterator[Finding]:
    """A finding for each source of keys, which is asked now, and for each account that nobody can log in to."""
    unreadable = key_file_problems(config)
    for path, each in unreadable.items():
        yield problem(KEYS, each, OWN_IT if Path(path).exists() else MAKE_FILE)
    try:
        seen = offline.look(config, ask_all=True)
    except Failed as error:
        yield unknown(KEYS, str(error), AS_ROOT)
        return
    for complaint in seen.complaints:
        yield warning(KEYS, complaint, "correct that line, or the source: docs/keys.md")
    for source in seen.sources:
        kind, _, path = source.spec.partition(":")
        if not (kind in LOCAL_KINDS and path in unreadable):
            yield _source(source)
    for login in seen.reply.logins:
        yield from _login(login)


def _source(source: SourceReport) -> Finding:
    kind = source.spec.partition(":")[0]
    if not text.has_problem(source):
        return ok(KEYS, f"{source.spec}: {text.number(source.accepted, 'key')}")
    if source.failure:
        return warning(KEYS, f"{source.spec}: {source.failure}", REMEDIES.get(kind, ANY_REMEDY))
    return warning(KEYS, f"{source.spec}: there is no key in it", "add a public key there (GitHub: Settings, SSH keys)")


def _login(login: LoginReport) -> Iterator[Finding]:
    usable = [key for key in login.keys if not key.narrowed_out]
    if usable:
        return
    if login.keys:
        hint = "only_fingerprints or key_types of its [[login]] leave all of them out: widen them"
        yield problem(KEYS, f"nobody gets in as {login.user}: no key may be used", hint)
    else:
        hint = "see above for why its sources have none; `keys` of its [[login]] can name more of them"
        yield problem(KEYS, f"nobody gets in as {login.user}: there is no key", hint)

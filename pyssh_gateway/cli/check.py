"""`check`: everything that can be checked before a server is started, by the functions that the server itself uses.

With `--elsewhere` the configuration is for another machine: checks that depend on the machine are left out and listed.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pyssh_gateway.audit import room
from pyssh_gateway.audit.sinks.configured import receivers
from pyssh_gateway.cli import offline
from pyssh_gateway.cli.accounts import closed
from pyssh_gateway.cli.configuration.lookup import Lookup, find
from pyssh_gateway.cli.configuration.show import remarks
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.doctor.finding import Level
from pyssh_gateway.cli.doctor.ports import look_at_ports
from pyssh_gateway.cli.exit_codes import FINE, NO
from pyssh_gateway.cli.output import printing, text
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.config.source import ConfigError, shown_endpoint
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.control import LoginReport, RevokedListReport, SourceReport
from pyssh_gateway.keys.host_keys import HostKeyError, key_path, load, load_file, load_next
from pyssh_gateway.keys.sources import LOCAL_KINDS
from pyssh_gateway.startup import banner_file, state_lock
from pyssh_gateway.startup.listening import endpoints_in
from pyssh_gateway.startup.preflight import (
    chroot_directory_problems,
    config_problems,
    key_file_problems,
    key_files,
    login_problems,
    name_problems,
    place_problems,
)

NOWHERE = "/nonexistent"
"""A directory that does not exist: this machine's copies of keys say nothing about another machine."""


class CheckReport(msgspec.Struct, frozen=True):
    """The problems, a line each, and the keys that would be in force in spite of them.

    `file` (empty for none) and `variables` of the environment were read. `unchecked` has a line for each thing that was
    not checked. `collectors` are where events are sent, too.
    """

    problems: tuple[str, ...]
    logins: tuple[LoginReport, ...]
    sources: tuple[SourceReport, ...]
    file: str
    variables: tuple[str, ...]
    unchecked: tuple[str, ...]
    revoked: tuple[RevokedListReport, ...] = ()
    collectors: tuple[str, ...] = ()


def check(given: Given, context: Context) -> int:
    """Check accounts, files, directories, ports and host keys, and ask every source once. Nothing is written."""
    found = find(context)
    if found.config is None:
        raise ConfigError(found.problems)
    config = found.config
    problems, unchecked = config_problems(config), _for_the_machine(config)
    if given.elsewhere:
        problems += name_problems(config)
        config = _anywhere(config)
    else:
        problems += _machine_problems(config, found)
        unchecked = _for_root(config) if os.geteuid() != 0 else []
    seen = offline.look(config, ask_all=True)
    problems += seen.complaints
    problems += [
        f"{listed.spec}: {listed.failure}; nobody gets in while that is so"
        for listed in seen.reply.revoked
        if listed.failure
    ]
    problems += _source_problems(seen.sources, set() if given.elsewhere else set(key_file_problems(config)))
    report = CheckReport(
        tuple(problems),
        seen.reply.logins,
        seen.sources,
        found.file,
        found.variables,
        tuple(unchecked),
        seen.reply.revoked,
        tuple(receiver.name for receiver in receivers(config.audit).values()),
    )
    if given.json:
        printing.json(report, found.server)
    else:
        printing.lines([f"configuration: {found.described}", "", *_lines(report, elsewhere=given.elsewhere)])
    for remark in remarks(found):
        printing.remark(remark)
    return NO if problems else FINE


def _lines(report: CheckReport, *, elsewhere: bool) -> list[str]:
    lines = text.logins(report.logins, pictures=False)
    lines += ["sources", *text.sources(report.sources), ""] if report.sources else []
    lines += [*text.revoked_lists(report.revoked), ""] if report.revoked else []
    if report.collectors:
        lines += ["events are sent, too, by", *(f"  {each}" for each in report.collectors), ""]
    if report.unchecked:
        why = "it is for another machine" if elsewhere else "only root can"
        lines += [f"not checked, because {why}:", *(f"  {each}" for each in report.unchecked), ""]
    if not report.problems:
        return [*lines, "nothing is wrong"]
    lines += [f"{text.number(len(report.problems), 'problem')}:", *(f"! {problem}" for problem in report.problems)]
    if not elsewhere and any("there is no account" in problem for problem in report.problems):
        lines += ["", "Is it for another machine? check --elsewhere leaves out what depends on the machine."]
    return lines


# -- for this machine ---------------------------------------------------------------------------------------------


def _log_problems(config: Config) -> list[str]:
    why = room.why_not(Path(config.audit_dir).absolute())
    return [] if why is None else [f"audit_dir: {why}: {room.what_follows(required=config.audit.required)}"]


def _machine_problems(config: Config, found: Lookup) -> list[str]:
    own = state_lock.holders(config) | ({found.pid} - {0})
    others = [] if own else state_lock.problems(config)  # a server in another container
    ports = [
        f"listen: {finding.text}: {finding.hint}"
        for finding in look_at_ports(config, own)
        if finding.level is Level.PROBLEM
    ]
    return [
        *login_problems(config),
        *place_problems(config),
        *_log_problems(config),
        *banner_file.with_text(config)[1],
        *chroot_directory_problems(config),
        *others,
        *ports,
        *host_key_problems(config),
        *_closed_accounts(config),
    ]


def _source_problems(sources: Sequence[SourceReport], unreadable: set[str]) -> list[str]:
    problems = []
    for source in sources:
        kind, _, path = source.spec.partition(":")
        is_told = kind in LOCAL_KINDS and path in unreadable
        if text.has_problem(source) and not is_told:
            problems.append(f"{source.spec}: {source.failure or 'there is no key in it'}")
    return problems


def _closed_accounts(config: Config) -> list[str]:
    """Accounts that nobody can log in to with any key, as far as we may know: only root can read /etc/shadow."""
    problems = []
    for login in config.login:
        told = closed(login.user)
        if told:
            problems.append(f"login {login.user}: {told}")
    return problems


def host_key_problems(config: Config) -> list[str]:
    """Problems of the existing host keys; missing ones are made at the start."""
    keys_dir, problems = Path(config.keys_dir), []
    for kind in config.host_keys.types:
        try:
            load(key_path(keys_dir, kind), kind)
        except FileNotFoundError:
            continue
        except HostKeyError as error:
            problems.append(str(error))
    for path in config.host_keys.files:
        try:
            load_file(Path(path))
        except HostKeyError as error:
            problems.append(str(error))
    try:
        load_next(keys_dir, config.host_keys.types)
    except HostKeyError as error:
        problems.append(str(error))
    return problems or _certificate_problems(config)


def _certificate_problems(config: Config) -> list[str]:
    """Problems of the host keys' certificates. All the keys can be read; a key that is still to be made has none."""
    return [
        f"host certificate {one.path} is not offered: {one.problem}"
        for one in offline.host_certificates(config)
        if one.problem
    ]


def _for_root(config: Config) -> list[str]:
    """The checks that only root can do, a line each."""
    users = ", ".join(login.user for login in config.login)
    return [
        *([f"whether these accounts have expired: {users}"] if users else []),
        f"the accounts of a server that root starts: {config.account}, {config.preauth_account}",
    ]


# -- for another one --------------------------------------------------------------------------------------------------


def _anywhere(config: Config) -> Config:
    """`config` without everything that refers to files of the machine."""
    logins = []
    for login in config.login:
        remote = tuple(spec for spec in login.keys if spec.partition(":")[0] not in LOCAL_KINDS)
        if remote:
            logins.append(msgspec.structs.replace(login, keys=remote))
    return msgspec.structs.replace(config, login=tuple(logins), keys_dir=NOWHERE)


def _for_the_machine(config: Config) -> list[str]:
    """The checks that are possible only on the machine itself, a line each."""
    files, boot = sorted(key_files(config)), config.boot
    chroots = [login.chroot for login in config.login if login.chroot]
    places = [*(link.path for link in boot.link), *(directory.path for directory in boot.directory)]
    accounts = dict.fromkeys((*(login.user for login in config.login), config.account, config.preauth_account))
    return [
        f"accounts: {', '.join(accounts)}",
        *([f"key files: {', '.join(files)}"] if files else []),
        *([f"root directories: {', '.join(chroots)}"] if chroots else []),
        f"directories, and the host keys in the first: {config.keys_dir}, {config.audit_dir}",
        f"addresses and ports: {', '.join(shown_endpoint(*endpoint) for endpoint in endpoints_in(config))}",
        *([f"what is made at boot: {', '.join(places)}"] if places else []),
    ]

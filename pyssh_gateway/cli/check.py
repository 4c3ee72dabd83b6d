"""`check`: everything that can be known before a server is started, found with the functions that the server uses."""

import argparse
from pathlib import Path

import msgspec

from pyssh_gateway.cli import offline, printing, text
from pyssh_gateway.cli.accounts import closed
from pyssh_gateway.cli.exit_codes import FINE, NO
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.control import LoginReport, RevokedListReport, SourceReport
from pyssh_gateway.keys.host_keys import HostKeyError, key_path, load, load_file, load_next
from pyssh_gateway.startup.preflight import key_file_problems, login_problems, place_problems


class CheckReport(msgspec.Struct, frozen=True):
    """What is wrong, a line each, and what would be in force all the same."""

    problems: tuple[str, ...]
    logins: tuple[LoginReport, ...]
    sources: tuple[SourceReport, ...]
    revoked: tuple[RevokedListReport, ...] = ()


def check(given: argparse.Namespace, config: Config) -> int:
    """Look at accounts, files, directories and host keys, and ask every source once. Nothing is kept."""
    problems = login_problems(config) + place_problems(config) + _host_key_problems(config) + _closed_accounts(config)
    unreadable = key_file_problems(config)
    found = offline.look(config, ask_all=True)
    problems += found.complaints
    problems += [
        f"{listed.spec}: {listed.failure}; nobody gets in while that is so"
        for listed in found.reply.revoked
        if listed.failure
    ]
    for source in found.sources:
        kind, _, path = source.spec.partition(":")
        is_told = kind in {"file", "ca"} and path in unreadable
        if text.has_problem(source) and not is_told:
            problems.append(f"{source.spec}: {source.failure or 'there is no key in it'}")
    if given.json:
        printing.json(CheckReport(tuple(problems), found.reply.logins, found.sources, found.reply.revoked))
    else:
        printing.lines([*text.keys(found.reply, pictures=False), ""])
        printing.lines(_summary(problems))
    return NO if problems else FINE


def _summary(problems: list[str]) -> list[str]:
    if not problems:
        return ["nothing is wrong"]
    return [f"{text.number(len(problems), 'problem')}:", *(f"! {problem}" for problem in problems)]


def _closed_accounts(config: Config) -> list[str]:
    """Accounts that nobody can log in to, whatever their keys are, as far as we may know: /etc/shadow is root's."""
    problems = []
    for login in config.login:
        told = closed(login.user)
        if told:
            problems.append(f"login {login.user}: {told}")
    return problems


def _host_key_problems(config: Config) -> list[str]:
    """What is wrong with the host keys that are there; those that are missing are made at the start."""
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
    """What is wrong with certificates of host keys, which can all be read; a key that is still to be made has none."""
    return [
        f"host certificate {one.path} is not offered: {one.problem}"
        for one in offline.host_certificates(config)
        if one.problem
    ]

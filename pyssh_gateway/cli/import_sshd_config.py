"""`import-sshd-config`: translates sshd's configuration into ours. Reads the machine, and writes only a new file."""

import glob
import grp
import os
import pwd
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, NO, WRONG_USAGE, Failed
from pyssh_gateway.cli.output import printing, text
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.core.sshd_config.effective import Account, named_users
from pyssh_gateway.core.sshd_config.lines import Directive, SshdConfigError, directives
from pyssh_gateway.core.sshd_config.translate import Machine, Translation, translate

SSHD_DIRECTORY = Path("/etc/ssh")
"""Where sshd looks for files that it includes by a relative name."""

MAX_BYTES = 1024 * 1024
"""The largest file; sshd has the same limit."""

NO_SHELLS = frozenset({"nologin", "false"})
"""Shells of accounts that don't belong to a person."""


class Unreadable(Failed):
    """The file can't be read, or sshd would not start with it."""

    kind = "config"
    code = WRONG_USAGE


def import_(given: Given, _context: Context) -> int:
    """Translate the file, for this machine; returns NO if a part of it is left out."""
    lines = _lines(Path(given.file))
    found = translate(lines, Machine(_accounts(named_users(lines)), os.path.isfile, _has_ipv6()))
    if given.output is None:
        # On a terminal the list follows at once, on standard error.
        printing.write(_written(given.file, found, with_list=not _is_terminal(sys.stdout)))
    else:
        _write(Path(given.output), _written(given.file, found, with_list=True))
    printing.aside(_report(given, found))
    return NO if found.left_out else FINE


def _lines(path: Path) -> tuple[Directive, ...]:
    try:
        return directives(str(path), _read(path), _included)
    except SshdConfigError as error:
        raise Unreadable(str(error)) from None


def _included(pattern: str) -> list[tuple[str, str]]:
    """The files that an argument of Include matches, in the order of glob(3)."""
    found = sorted(glob.glob(str(SSHD_DIRECTORY / pattern)), key=os.fsencode)  # noqa: PTH207 - sshd uses glob(3), whose * matches no hidden file
    return [(name, _read(Path(name))) for name in found]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise Unreadable(f"{path}: is longer than {MAX_BYTES // 1024} KiB, so it is hardly a configuration")
    if b"\0" in content:
        raise Unreadable(f"{path}: is not text")
    return content.decode("utf-8", "surrogateescape")


def _accounts(named: Iterable[str]) -> tuple[Account, ...]:
    """The accounts of this machine in the order of their uids, and those of `named` that a directory service has."""
    entries = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in named:
        with suppress(KeyError, ValueError):
            entries.setdefault(name, pwd.getpwnam(name))
    return tuple(_account(entry) for entry in sorted(entries.values(), key=lambda entry: entry.pw_uid))


def _account(entry: pwd.struct_passwd) -> Account:
    groups = []
    for gid in dict.fromkeys([entry.pw_gid, *os.getgrouplist(entry.pw_name, entry.pw_gid)]):
        with suppress(KeyError):
            groups.append(grp.getgrgid(gid).gr_name)
    has_shell = Path(entry.pw_shell).name not in NO_SHELLS
    return Account(entry.pw_name, entry.pw_uid, entry.pw_dir, tuple(groups), has_shell)


def _has_ipv6() -> bool:
    return socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _written(source: str, found: Translation, *, with_list: bool) -> str:
    head = [f"# From {printing.visible(source)}, by pyssh-gateway import-sshd-config."]
    if found.left_out and with_list:
        head += ["#", "# Not in here:", *(f"# - {each.text}" for each in found.left_out)]
    return "\n".join([*head, "", found.toml])


def _write(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise Failed(f"{path} is there already, and stays as it is: name another file, or move it away") from None
    except OSError as error:
        raise Failed(f"{path}: cannot be written: {error.strerror}") from None


def _report(given: Given, found: Translation) -> list[str]:
    """The lines about what is left out, and what to do next."""
    lines = [f"not translated: {each.text}" for each in found.left_out]
    if os.geteuid() != 0:
        lines.append("not root: accounts whose files of keys can't be seen have no [[login]]")
    if found.logins:
        path = "FILE" if given.output is None else given.output
        lines += [
            f"{text.number(len(found.logins), 'account')} may log in. Next, with keys_dir and audit_dir set:",
            f"  pyssh-gateway keys import-host --config {path}   # sshd's host keys, so that no client is warned",
            f"  pyssh-gateway check --config {path}   # whether a server would start with it",
        ]
    return lines

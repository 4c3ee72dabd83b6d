"""sshd configurations as text, read without files on the disk."""

from fnmatch import fnmatchcase

from pyssh_gateway.core.sshd_config.effective import Account
from pyssh_gateway.core.sshd_config.lines import Directive, directives
from pyssh_gateway.core.sshd_config.translate import Machine, Translation, translate

ROOT = Account("root", 0, "/root", ("root",))
AMOS = Account("amos", 1000, "/home/amos", ("amos", "staff"))
BUILD = Account("build", 1001, "/srv/build", ("build", "sftponly"), has_shell=False)
DAEMON = Account("daemon", 1, "/usr/sbin", ("daemon",), has_shell=False)

KEY_FILES = frozenset(f"{account.home}/.ssh/authorized_keys" for account in (ROOT, AMOS, BUILD))


def read(text: str, **included: str) -> tuple[Directive, ...]:
    """The lines of `text`; `included` are files that it may include, by their names."""

    def include(pattern: str) -> list[tuple[str, str]]:
        return [(name, content) for name, content in sorted(included.items()) if fnmatchcase(name, pattern)]

    return directives("f", text, include)


def translated(text: str, *, files: frozenset[str] = KEY_FILES, ipv6: bool = True) -> Translation:
    """The translation of `text` on a machine with four accounts, three of which have a key file."""
    return translate(read(text), Machine((ROOT, AMOS, BUILD, DAEMON), files.__contains__, ipv6))

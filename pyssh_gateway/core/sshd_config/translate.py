"""From sshd's configuration to ours: settings, logins, and a list of everything that could not be translated. Pure.

Only what the files say is translated; where sshd's default differs from ours, docs/from-sshd.md says so. The result has
passed our own parser, value by value and as a whole.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from pyssh_gateway.config.parser import ConfigError, RawConfig, parse
from pyssh_gateway.core.login_rules import chroot_problems
from pyssh_gateway.core.printable import printable
from pyssh_gateway.core.sshd_config import login as logins
from pyssh_gateway.core.sshd_config import server
from pyssh_gateway.core.sshd_config.arguments import Untranslatable
from pyssh_gateway.core.sshd_config.effective import ALIASES, Account, Effective, applies, effective
from pyssh_gateway.core.sshd_config.keywords import BY_NAME, DEPRECATED
from pyssh_gateway.core.sshd_config.lines import Block, Directive
from pyssh_gateway.core.sshd_config.toml import to_toml

Tables = dict[str, dict[str, object]]

FIRST_USER, NOBODY = 1000, 65534
"""Accounts of people have uids from 1000 on (login.defs(5)); 65534 is nobody's."""

_BOTH = logins.TRANSLATED | {"authorizedprincipalsfile", "authorizedprincipalscommand"}


class LeftOut(msgspec.Struct, frozen=True):
    """Something that could not be translated. `line` None: it is about an account or about everything."""

    line: Directive | Block | None
    reason: str

    @property
    def text(self) -> str:
        """For people, in one line."""
        if self.line is None:
            return printable(self.reason)
        if isinstance(self.line, Block):
            return printable(f"{self.line.file} line {self.line.line}: Match {self.line.text}: {self.reason}")
        keyword = BY_NAME.get(self.line.keyword)
        name = self.line.keyword if keyword is None else keyword.name
        return printable(f"{self.line.file} line {self.line.line}: {name} {self.line.rest}: {self.reason}")


class Machine(msgspec.Struct, frozen=True):
    """The facts about the machine. `is_file` tells whether a path leads to a file."""

    accounts: tuple[Account, ...]
    is_file: Callable[[str], bool]
    ipv6: bool = True


class Translation(msgspec.Struct, frozen=True):
    """Our configuration, as tables, and what is not in it."""

    tables: Tables
    logins: tuple[logins.Login, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def toml(self) -> str:
        """The configuration as a file."""
        heads = [(f"[{name}]", table) for name, table in self.tables.items()]
        return to_toml([*heads, *(("[[login]]", entry) for entry in self.logins)])


def translate(directives: Iterable[Directive], machine: Machine) -> Translation:
    """Translate all lines for this machine."""
    return _Translator(tuple(directives), machine).translate()


class _Translator:
    def __init__(self, directives: tuple[Directive, ...], machine: Machine) -> None:
        self._directives = directives
        self._machine = machine
        self._everybody = effective(directives, None)
        self._tables: Tables = {}
        self._origins: dict[str, str] = {}
        self._logins: list[logins.Login] = []
        self._without_keys: list[str] = []
        self._left_out: list[LeftOut] = []
        self._counting: set[Directive] = {each for lines in self._everybody.lines.values() for each in lines}

    def translate(self) -> Translation:
        """Translate everything."""
        self._server()
        self._logins = [entry for account in self._machine.accounts if (entry := self._login(account)) is not None]
        if not self._logins:
            self._leave_out(None, "nobody may log in: no account that sshd would let in has a file of keys")
        self._say_the_rest()
        self._check()
        # In the order of the lines; entries without a line come last.
        left_out = sorted(dict.fromkeys(self._left_out), key=self._place)
        return Translation(self._tables, tuple(self._logins), tuple(left_out))

    def _place(self, left_out: LeftOut) -> int:
        line = left_out.line
        places = (
            place for place, directive in enumerate(self._directives) if line is directive or line in directive.blocks
        )
        return next(places, len(self._directives))

    # -- for everybody ------------------------------------------------------------------------------------------------

    def _server(self) -> None:
        listening = server.listening(self._everybody, ipv6=self._machine.ipv6)
        host_keys = server.host_keys(self._everybody, self._machine.is_file)
        for found, problems in (listening, host_keys):
            self._put(found, None)
            for line, why in problems:
                self._leave_out(line, str(why))
        for line, result in server.settings(self._everybody):
            if isinstance(result, Untranslatable):
                self._leave_out(line, str(result))
            else:
                self._put(result, line)

    def _put(self, settings: server.Settings, line: Directive | None) -> None:
        """Keep the settings that our parser takes."""
        for path, value in settings.items():
            table, _, key = path.partition(".")
            # `_check` handles settings that conflict with a default.
            problems = [each for each in _problems({table: {key: value}}) if _path(each) == path]
            if problems:
                self._leave_out(line, problems[0])
            else:
                self._tables.setdefault(table, {})[key] = value
                if line is not None:
                    self._origins[path] = f"{line.file} line {line.line}"

    # -- accounts -----------------------------------------------------------------------------------------------------

    def _login(self, account: Account) -> logins.Login | None:
        found = effective(self._directives, account)
        keys: list[str] = []
        try:
            keys = logins.keys_of(account, found, self._machine.is_file)
            if logins.closed(account, found):
                return None
            if not _is_meant(account, keys):
                if account.name in found.words("allowusers") or _is_persons(account):
                    self._without_keys.append(account.name)
                return None
            self._counting.update(each for lines in found.lines.values() for each in lines)
            self._counting.update(found.unsure)
            entry = logins.login_of(account, found, keys, self._tables.get("forwarding", {}))
            _check_login(entry)
            self._check_revoked(found)
        except Untranslatable as why:
            if _is_meant(account, keys) or _is_persons(account):
                self._leave_out(None, f"{account.name} has no [[login]]: {why}")
            return None
        return entry

    def _check_revoked(self, found: Effective) -> None:
        """Raise `Untranslatable` if keys that sshd revokes for the account would be accepted here."""
        lists = found.words("revokedkeys")
        is_translated = "revoked" in self._tables.get("keys", {})
        if lists != self._everybody.words("revokedkeys") or (lists[:1] not in {(), ("none",)} and not is_translated):
            raise Untranslatable(f"RevokedKeys {' '.join(lists)}: here the lists are for everybody, by absolute paths")

    # -- what is left -------------------------------------------------------------------------------------------------

    def _say_the_rest(self) -> None:
        """Report each line that applies to somebody but was not translated, and each block that matches nobody."""
        self._say_who_is_missing()
        if self._without_keys:
            self._leave_out(None, f"without a file of keys there is no [[login]]: {', '.join(self._without_keys)}")
        for line in self._directives:
            keyword = ALIASES.get(line.keyword, line.keyword)
            known = BY_NAME.get(keyword)
            if known is None:
                if keyword not in DEPRECATED:
                    self._leave_out(line, "sshd_config(5) has no such keyword")
            elif line not in self._counting:
                if line.blocks and applies(line.blocks, None) is None and not self._fits_somebody(line):
                    self._leave_out(line.blocks[-1], "it fits no account here that may log in")
            elif keyword in server.FOR_EVERYBODY - server.FOR_LOGINS_AS_WELL:
                if applies(line.blocks, None) is None:
                    self._leave_out(line, f"{known.here[0]} is for everybody, and not for Match {line.blocks[-1].text}")
            elif keyword in logins.TRANSLATED:
                if self._depends(line):
                    self._leave_out(line, f"Match {line.blocks[-1].text} depends on the connection")
            elif " ".join(line.arguments).lower() not in known.same and not self._is_plain_sftp(line):
                self._leave_out(line, _plain(known.remark))

    def _say_who_is_missing(self) -> None:
        there = {account.name for account in self._machine.accounts}
        for line in self._everybody.lines.get("allowusers", ()):
            for name in line.arguments:
                if not set(name) & set("*?@") and name not in there:
                    self._leave_out(line, f"there is no account {name} on this machine")

    def _fits_somebody(self, line: Directive) -> bool:
        """Whether the line applies to an account that gets a login; then another line overrides it."""
        names = {entry["user"] for entry in self._logins}
        return any(applies(line.blocks, each) is not False for each in self._machine.accounts if each.name in names)

    def _depends(self, line: Directive) -> bool:
        return any(applies(line.blocks, account) is None for account in self._machine.accounts)

    @staticmethod
    def _is_plain_sftp(line: Directive) -> bool:
        """Whether the line means SFTP as we serve it: without options that change what is permitted."""
        if line.keyword != "subsystem" or line.arguments[:1] != ("sftp",) or len(line.arguments) < 2:
            return False
        options = line.arguments[2:]
        return all(word in {"-f", "-l", "-e"} for word in options[::2]) and len(options) % 2 == 0

    def _check(self) -> None:
        """Remove settings that our parser rejects in combination."""
        while problems := _problems(self._tables, self._origins):
            table, _, key = _path(problems[0]).partition(".")
            if key in self._tables[table]:
                del self._tables[table][key]
                self._leave_out(None, problems[0])
            else:  # our default is larger than the file's limit for all connections together
                self._tables[table][key] = self._tables[table]["unauthenticated"]

    def _leave_out(self, line: Directive | Block | None, reason: str) -> None:
        self._left_out.append(LeftOut(line, reason))


def _plain(remark: str) -> str:
    """A remark of the table of keywords, without Markdown."""
    return re.sub(r"\[[^\]]+\]\(([^)#]+)[^)]*\)", r"docs/\1", remark).replace("`", "")


def _is_meant(account: Account, keys: list[str]) -> bool:
    """Whether people log in to the account: it has its own keys, or is a person's, for which an authority is enough."""
    own = any(source.startswith("file:") for source in keys)
    return own or (bool(keys) and (_is_persons(account) or account.uid == 0))


def _is_persons(account: Account) -> bool:
    return account.has_shell and FIRST_USER <= account.uid < NOBODY


def _check_login(entry: logins.Login) -> None:
    """Raise `Untranslatable` if our parser or the server's start would refuse the login."""
    tables = {"login": [entry]}
    problems = _problems(tables) or chroot_problems(parse(RawConfig(dict(tables), {}, None)).login[0])
    if problems:
        raise Untranslatable(problems[0])


def _path(problem: str) -> str:
    """The setting that a message of our parser is about."""
    return problem.partition(":")[0].partition("[")[0]


def _problems(tables: Mapping[str, object], origins: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The problems that our parser finds, one line each; `origins` tell where settings come from."""
    try:
        for text in _texts(tables):
            text.encode()
        parse(RawConfig(dict(tables), dict(origins), None))
    except UnicodeEncodeError:
        return [f"{'.'.join(_names(tables))}: not UTF-8 text"]
    except ConfigError as error:
        return list(error.problems)
    return []


def _names(tables: Mapping[str, object]) -> list[str]:
    """The names in the path of the only setting in `tables`."""
    name, table = next(iter(tables.items()))
    return [name, *(table if isinstance(table, dict) else ())]


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for each in value.values() for text in _texts(each)]
        case list():
            return [text for each in value for text in _texts(each)]
        case _:
            return []

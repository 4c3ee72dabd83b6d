"""The part of sshd's configuration that applies to one account: Match blocks, first values, cumulative lists. Pure.

As in OpenSSH's servconf.c: the first line outside of blocks counts, and the first in a matching block; a line in a
matching block overrides the one outside, wherever it stands.
"""

from collections.abc import Iterable, Mapping

import msgspec

from pyssh_gateway.core.access.source_match import wildcard
from pyssh_gateway.core.sshd_config.lines import Block, Criterion, Directive

ADD_UP = frozenset(
    {
        *("port", "listenaddress", "hostkey", "hostcertificate", "acceptenv", "subsystem"),
        *("allowusers", "denyusers", "allowgroups", "denygroups"),
    }
)
"""Keywords whose lines are cumulative; of all others the first line counts."""

ALIASES = {
    "hostdsakey": "hostkey",
    "hostbasedacceptedkeytypes": "hostbasedacceptedalgorithms",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "dsaauthentication": "pubkeyauthentication",
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "keepalive": "tcpkeepalive",
}
"""Former names of keywords (servconf.h)."""


class Account(msgspec.Struct, frozen=True):
    """An account of the machine. `groups` are the names of all its groups, the primary one first."""

    name: str
    uid: int
    home: str
    groups: tuple[str, ...] = ()
    has_shell: bool = True


class Effective(msgspec.Struct, frozen=True):
    """The lines that apply, by keyword. `unsure`: lines that apply to some connections only."""

    lines: Mapping[str, tuple[Directive, ...]]
    unsure: tuple[Directive, ...] = ()

    def words(self, keyword: str) -> tuple[str, ...]:
        """All arguments of the keyword, empty if it is not there."""
        return tuple(word for directive in self.lines.get(keyword, ()) for word in directive.arguments)

    def word(self, keyword: str, default: str) -> str:
        """The first argument of the keyword."""
        return next(iter(self.words(keyword)), default)


def effective(directives: Iterable[Directive], account: Account | None) -> Effective:
    """The lines that apply to `account`; with None, to everybody."""
    outside: dict[str, tuple[Directive, ...]] = {}
    inside: dict[str, tuple[Directive, ...]] = {}
    unsure: list[Directive] = []
    for directive in directives:
        fits = applies(directive.blocks, account)
        if fits is None:
            unsure.append(directive)
        elif fits:
            lines = inside if directive.blocks else outside
            keyword = ALIASES.get(directive.keyword, directive.keyword)
            before = lines.get(keyword, ())
            lines[keyword] = (*before, directive) if keyword in ADD_UP else before or (directive,)
    return Effective(outside | inside, tuple(unsure))


def applies(blocks: Iterable[Block], account: Account | None) -> bool | None:
    """Whether all blocks match; None if that depends on the connection, or on the account and `account` is None."""
    answers = {_fits(criterion, account) for block in blocks for criterion in block.criteria}
    return False if False in answers else None if None in answers else True


def named_users(directives: Iterable[Directive]) -> set[str]:
    """The accounts that AllowUsers and Match blocks name literally, without a pattern."""
    words = {word for directive in directives if directive.keyword == "allowusers" for word in directive.arguments}
    for directive in directives:
        for block in directive.blocks:
            words.update(*(each.argument.split(",") for each in block.criteria if each.name == "user"))
    return {word for word in words if word and not set(word) & set("*?!@")}


def matches(name: str, patterns: str) -> bool:
    """Whether the name is in the list of patterns; a `!` excludes (match.c, match_pattern_list)."""
    positive = False
    for pattern in patterns.split(","):
        if wildcard(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            positive = True
    return positive


def _fits(criterion: Criterion, account: Account | None) -> bool | None:
    match criterion.name:
        case "all":
            return True
        case "invalid-user":  # matches only names without an account
            return False
        case "user" if account is not None:
            return matches(account.name, criterion.argument)
        case "group" if account is not None:
            return _in_groups(account.groups, criterion.argument)
        case _:
            return None


def _in_groups(groups: tuple[str, ...], patterns: str) -> bool:
    """Whether one of the groups matches and none is excluded (groupaccess.c, ga_match_pattern_list)."""
    excluded = [pattern[1:] for pattern in patterns.split(",") if pattern.startswith("!")]
    if any(wildcard(pattern, group) for pattern in excluded for group in groups):
        return False
    return any(matches(group, patterns) for group in groups)

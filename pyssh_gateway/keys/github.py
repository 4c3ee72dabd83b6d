"""GitHub's API, for facts that a page of keys does not have: the number of an account, and the members of a team.

An account's number stays the same when it is renamed, and is never given to another account; its name may be. An
Enterprise Server in private mode shows no page of keys: there, the API has the keys as well. This module does not know
which numbers are trusted.
"""

import datetime as dt
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES, is_key_line
from pyssh_gateway.keys.download import Request, download
from pyssh_gateway.keys.http_answer import Answer, FetchError
from pyssh_gateway.keys.http_connection import Proxies, same_origin

PAGE_SIZE = 100
"""Members, or keys, on a page: the most that the API gives."""

MAX_PAGES = 5
"""Pages read of one team, or of one account's keys. Each member is one more download at every refresh, and
`core.access.authorized_keys.MAX_KEYS_BYTES` holds the keys of so many."""

_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

_UNAUTHORISED = "GitHub does not accept keys.github_token: it may have expired"
_UNKNOWN_ASKER = (
    "GitHub's API answers only to those who show a token: set keys.github_token (PYSSH_GATEWAY_KEYS__GITHUB_TOKEN) to "
    "one of any account there"
)
PRIVATE = (
    "a GitHub Enterprise Server in private mode shows keys only to those who are signed in: set keys.github_token "
    "(PYSSH_GATEWAY_KEYS__GITHUB_TOKEN) to a token of any account there, and its API is asked for them"
)
"""The hint for a server that redirects requests for keys to its login page."""
_UNASKED = (
    "GitHub tells who is in a team only to those who know a token of the organisation: set keys.github_token "
    "(PYSSH_GATEWAY_KEYS__GITHUB_TOKEN) to one with read:org, or with read access to the organisation's members"
)

# One key as `ssh-keygen` writes it, without options before it or a comment after it.
_KEY_LINE = re.compile(rb"((?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+)[ \t]+([A-Za-z0-9+/]+={0,2})(?:[ \t].*)?", re.DOTALL)
_KEPT_LINE = re.compile(rb"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}")
_MEMBER_LINE = re.compile(
    rb"# (github:([^#]+)#([0-9]{1,18}))(?: as of ([0-9T:+-]{25})(?: gone since ([0-9T:+-]{25}))?)?"
)

AccountId = Annotated[int, msgspec.Meta(gt=0, lt=10**18)]
"""The range of an account's number; `config_values.source_spec` accepts as many digits."""


class Member(msgspec.Struct, frozen=True):
    """A GitHub account as the API shows it: its current name, and its permanent number."""

    login: str
    id: AccountId


class _Key(msgspec.Struct, frozen=True):
    """A key as the API shows it: one line of type and base64."""

    key: str


class Old(msgspec.Struct, frozen=True):
    """Since when a member's keys are known, and since when the server answers that this account does not exist.

    Both in Unix seconds.
    """

    as_of: float
    gone_since: float | None = None


_T = TypeVar("_T")


async def account_id(login: str, settings: config.Keys, *, now: Callable[[], float] = time.time) -> int:
    """The number of the account that is called `login` now, within `settings.timeout`. Raises FetchError.

    The request is not conditional: without a token, GitHub counts those as well.
    """
    meanings = {404: "no such account", 410: "no such account", 401: _unauthorised(settings)}
    answer = await _ask(f"{settings.github_api}/users/{login}", settings, meanings, now)
    member = _decode(answer, Member)
    if member.login.lower() != login.lower():
        raise FetchError(f"GitHub's API was asked about the account {login} and tells about another one")
    return member.id


async def team_members(
    org: str, team: str, settings: config.Keys, *, now: Callable[[], float] = time.time
) -> tuple[Member, ...]:
    """The members of a team, by number; every page within `settings.timeout`. Raises FetchError."""
    if not settings.github_token:
        raise FetchError(_UNASKED)
    meanings = {404: "no such team", 410: "no such team", 401: _UNAUTHORISED}
    url = f"{settings.github_api}/orgs/{org}/teams/{team}/members?per_page={PAGE_SIZE}"
    try:
        listed = await _list(
            url, tuple[Member, ...], words=("the team", "members"), settings=settings, meanings=meanings, now=now
        )
    except FetchError as error:
        if error.gone:
            await _check_sight(org, settings, now)
        raise
    # A member who joins meanwhile moves others to the next page, where they are listed a second time.
    members = {member.id: _checked(member) for member in listed}
    return tuple(members[number] for number in sorted(members))


async def account_keys(login: str, settings: config.Keys, *, now: Callable[[], float] = time.time) -> bytes:
    """The keys of an account, by the API, as lines; every page within `settings.timeout`. Raises FetchError.

    For an Enterprise Server that hides its pages of keys, and shows them to those who have a token.
    """
    meanings = {404: "no such account", 410: "no such account", 401: _UNAUTHORISED}
    url = f"{settings.github_api}/users/{login}/keys?per_page={PAGE_SIZE}"
    listed = await _list(
        url, tuple[_Key, ...], words=("the account", "keys"), settings=settings, meanings=meanings, now=now
    )
    if any("\n" in one.key or "\r" in one.key for one in listed):
        raise FetchError("GitHub's API shows a key that is more than a line")
    return "".join(f"{one.key}\n" for one in listed).encode("utf-8", "replace")


async def _list(
    url: str,
    kind: type[tuple[_T, ...]],
    *,
    words: tuple[str, str],
    settings: config.Keys,
    meanings: dict[int, str],
    now: Callable[[], float],
) -> list[_T]:
    """Everything that the API lists at `url`, page by page. Raises FetchError, also if there are more than MAX_PAGES.

    `words` are for error messages: the owner of the list, and its items.
    """
    whose, what = words
    found: list[_T] = []
    for _ in range(MAX_PAGES):
        answer = await _ask(url, settings, meanings, now)
        found += _decode(answer, kind)
        if not answer.next_page:
            return found
        if config.check_source_spec(f"url:{answer.next_page}") is not None or not same_origin(url, answer.next_page):
            raise FetchError(f"GitHub's API continues the list of {what} at another place, which is not followed")
        url = answer.next_page
    raise FetchError(f"{whose} has more than {MAX_PAGES * PAGE_SIZE} {what}, which is more than are asked for")


def _unauthorised(settings: config.Keys) -> str:
    return _UNAUTHORISED if settings.github_token else _UNKNOWN_ASKER


async def _check_sight(org: str, settings: config.Keys, now: Callable[[], float]) -> None:
    """Raise FetchError if the token does not see the teams of `org`.

    GitHub answers 404 for everything that a token may not see. A token that has lost its rights must not look like a
    team that does not exist any more.
    """
    missing = f"no organisation {org}, or keys.github_token may not see its teams"
    url = f"{settings.github_api}/orgs/{org}/teams?per_page=1"
    try:
        await _ask(url, settings, {404: missing, 401: _UNAUTHORISED}, now)
    except FetchError as error:
        raise FetchError(error.reason, retry_after=error.retry_after) from error


async def _ask(url: str, settings: config.Keys, meanings: dict[int, str], now: Callable[[], float]) -> Answer:
    request = Request(
        url,
        what="JSON",
        any_case=True,
        token=settings.github_token,
        proxies=Proxies(settings.https_proxy, settings.no_proxy),
        headers=_HEADERS,
        meanings=meanings,
    )
    return await download(request, settings.timeout, now=now)


def _decode(answer: Answer, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.text or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the last: deep nesting
        raise FetchError(f"GitHub's API gives an answer that is not understood: {error}") from error


def _checked(member: Member) -> Member:
    """`member`, if its login may safely become part of an address. Raises FetchError."""
    if config.check_source_spec(f"github:{member.login}#{member.id}") is not None:
        raise FetchError(f"GitHub's API names a member with a login that is none: {member.login[:40]!a}")
    return member


def key_lines(text: bytes) -> bytes:
    """The keys of an account as lines of type and base64: no comment, no option, nothing that looks like ours.

    Raises FetchError if there is text but no key in it: such a text must not remove keys. Keys with options count as
    keys here, but are left out.
    """
    lines = [line.strip(b" \t\r") for line in text.split(b"\n")]
    keys = [b"%s %s\n" % key.groups() for line in lines if (key := _KEY_LINE.fullmatch(line)) is not None]
    other = [line for line in lines if line and not line.startswith(b"#")]
    if not keys and other and not any(map(is_key_line, other)):
        raise FetchError("no usable key in it")
    return b"".join(keys)


def compose(members: Sequence[tuple[Member, bytes]], old: Mapping[Member, Old] | None = None) -> bytes:
    """One text of the keys of all `members`, which `split` takes apart again.

    `old` has the members whose keys are older than the text, for `times`.
    Raises FetchError if it gets too large, or if the text of a member is not about keys.
    """
    parts: list[bytes] = []
    for member, text in members:
        try:
            keys = key_lines(text)
        except FetchError as error:
            raise FetchError(f"github:{member.login}: {error.reason}") from error
        since = _since(old[member]) if old and member in old else ""
        parts += [f"# github:{member.login}#{member.id}{since}\n".encode(), keys]
    composed = b"".join(parts)
    if len(composed) > MAX_KEYS_BYTES:
        raise FetchError(f"the keys of the team's {len(members)} members are larger than {MAX_KEYS_BYTES} bytes")
    return composed


def _since(old: Old) -> str:
    gone = f" gone since {_moment(old.gone_since)}" if old.gone_since is not None else ""
    return f" as of {_moment(old.as_of)}{gone}"


def times(text: bytes) -> dict[Member, Old]:
    """The members whose keys are older than `text`, with the `old` that `compose` was given, in whole seconds."""
    lines = (_MEMBER_LINE.fullmatch(line) for line in text.split(b"\n"))
    return {
        Member(line[2].decode(), int(line[3])): Old(_time(line[4]), _time(line[5]) if line[5] else None)
        for line in lines
        if line is not None and line[4]
    }


def _moment(time: float) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).isoformat(timespec="seconds")


def _time(moment: bytes) -> float:
    """The reverse of `_moment`, in whole seconds. Raises FetchError."""
    try:
        time = dt.datetime.fromisoformat(moment.decode()).timestamp()
        if _moment(time) == moment.decode():
            return time
    except (ValueError, OverflowError):
        pass
    raise FetchError(f"{moment.decode()} is no time in the form in which the keys of a team have it")


def split(text: bytes) -> tuple[tuple[Member, bytes], ...]:
    """The members of a team and their keys, as `compose` wrote them. Raises FetchError for any other text."""
    members: list[tuple[Member, list[bytes]]] = []
    *lines, rest = text.split(b"\n")
    for number, line in enumerate(lines, start=1):
        named = _MEMBER_LINE.fullmatch(line)
        if named is not None and config.check_source_spec(named[1].decode("ascii", "replace")) is None:
            members.append((Member(named[2].decode(), int(named[3])), []))
            for moment in filter(None, named.groups()[3:]):
                _time(moment)  # refuses what `times` could not read
        elif members and _KEPT_LINE.fullmatch(line):
            members[-1][1].append(line + b"\n")
        else:
            raise FetchError(f"line {number} does not belong into the keys of a team")
    if rest:
        raise FetchError("the keys of the team are cut off")
    return tuple((member, b"".join(keys)) for member, keys in members)

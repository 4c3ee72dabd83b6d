"""The sources of users' keys: their names in the configuration, and how to fetch their text.

`fetch` gives the whole text, or an error in one sentence; it never gives part of a text. core.access.authorized_keys
parses the text, and the keyring decides which keys stay in force after a failure.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from pyssh_gateway.config import parser as config
from pyssh_gateway.config.values import source_spec
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.core.access.redirects import login_of
from pyssh_gateway.keys.download import Request, download, no_answer
from pyssh_gateway.keys.http_answer import NO_VALIDATORS, Answer, FetchError, RedirectedError, Validators
from pyssh_gateway.keys.http_connection import Proxies, origin
from pyssh_gateway.system.threads import in_daemon_thread

__all__ = [
    "LOCAL_KINDS",
    "NO_VALIDATORS",
    "REVOKED",
    "Answer",
    "FetchError",
    "ReadFile",
    "RedirectedError",
    "Source",
    "SourceError",
    "Validators",
    "fetch",
    "fetch_file",
    "in_daemon_thread",
    "origin_of",
    "parse_source",
    "person_of",
    "renamed_to",
    "url_of",
]

ReadFile = Callable[[str], Awaitable[bytes]]
"""Reads a whole file, with the rights that it takes: at most revoked_list.MAX_BYTES + 1 bytes. Raises OSError, which is
a FileNotFoundError if there is no such file."""

Kind = Literal["github", "github-team", "gitlab", "codeberg", "launchpad", "sourcehut", "url", "file", "ca", "revoked"]

REVOKED: Literal["revoked"] = "revoked"
"""The kind without keys: a revocation list (`keys.revoked_lists`), which is read when key files are."""

LOCAL_KINDS = frozenset({"file", "ca", REVOKED})
"""The kinds that are files on this machine."""


class Source(msgspec.Struct, frozen=True):
    """One source of keys. `spec` is its name everywhere, in the notation of the configuration.

    `value` is the login, address or path in it; for a team `<org>/<team>`. `pinned_id` is the number of the GitHub
    account that the spec requires.
    """

    spec: str
    kind: Kind
    value: str
    pinned_id: int | None = None


class SourceError(ValueError):
    """An invalid spec. The message says what is wrong and what was expected."""


def parse_source(spec: str) -> Source:
    """The source of a spec: `github:<login>` and all the others of docs/configuration.md. Raises SourceError."""
    problem = config.check_source_spec(spec)
    if problem is not None:
        raise SourceError(problem)
    spec = source_spec(spec)
    kind, _, value = spec.partition(":")
    number = ""
    if kind == "github":
        value, _, number = value.partition("#")
    fields = {"spec": spec, "kind": kind, "value": value, "pinned_id": int(number) if number else None}
    return msgspec.convert(fields, Source)


def person_of(source: Source) -> str:
    """The owner of the keys: `github:example`, without the number. For a team, file or address: the spec itself."""
    return f"{source.kind}:{source.value}"


def url_of(source: Source, settings: config.Keys) -> str:
    """The address of the keys; empty for files, and for a team, whose members have one each."""
    match source.kind:
        case "github":
            return f"{settings.github_url}/{source.value}.keys"
        case "gitlab":
            return f"{settings.gitlab_url}/{source.value}.keys"
        case "codeberg":
            return f"{settings.codeberg_url}/{source.value}.keys"
        case "launchpad":
            return f"{settings.launchpad_url}/~{source.value}/+sshkeys"
        case "sourcehut":
            return f"{settings.sourcehut_url}/~{source.value}.keys"
        case "url":
            return source.value
        case _:
            return ""


def origin_of(source: Source, settings: config.Keys) -> str:
    """The server that is asked first, such as `https://github.com`; empty for files.

    For a team that is GitHub's API; the keys of its members come from the same server as those of `github:` sources.
    """
    url = settings.github_api if source.kind == "github-team" else url_of(source, settings)
    return origin(url) if url else ""


async def fetch(
    source: Source,
    settings: config.Keys,
    read_file: ReadFile,
    *,
    validators: Validators = NO_VALIDATORS,
    now: Callable[[], float] = time.time,
) -> Answer:
    """The whole text of `source`, at most MAX_KEYS_BYTES, within `settings.timeout`. Raises FetchError.

    Over HTTP, `validators` of an earlier answer make the request conditional. `now` is Unix time. A team has no text of
    its own: keys.github fetches its members. A redirect to another name is a RedirectedError: the account was renamed,
    or the name belongs to another account now, and a page of keys does not say which.
    """
    if source.kind in {"file", "ca"}:
        return Answer(await fetch_file(source.value, read_file, settings.timeout, limit=MAX_KEYS_BYTES))
    url = url_of(source, settings)
    if not url:
        raise ValueError(f"{source.spec} has no text of its own")
    missing = "nothing there" if source.kind == "url" else "no such account"
    what = "keys"
    if source.kind == "gitlab":  # not signed in, there is no 404: it might become a page that can be seen
        what += " (GitLab shows its sign-in page if there is no such account)"
    any_case = source.kind != "url"
    meanings = {404: missing, 410: missing}
    request = Request(
        url,
        what=what,
        any_case=any_case,
        validators=validators,
        proxies=Proxies(settings.https_proxy, settings.no_proxy),
        meanings=meanings,
    )
    try:
        return await download(request, settings.timeout, now=now)
    except RedirectedError as error:
        raise RedirectedError(_not_followed(source, error), error.target) from error


def renamed_to(source: Source, settings: config.Keys, target: str) -> str:
    """The GitHub login whose keys are at `target`, to which those of `source` are redirected; empty if it is none."""
    base = urlsplit(settings.github_url).path
    login = login_of(target.removeprefix(base))
    fits = (
        source.kind == "github" and login and config.check_source_spec(f"github:{login}") is None and "#" not in login
    )
    return login if fits else ""


def _not_followed(source: Source, error: RedirectedError) -> str:
    if source.kind == "url":
        return f"{error.reason}: if the keys are there now, name that address in the configuration"
    if not error.target or source.kind == "github":  # keys.inquiry can say more about a renamed account
        return error.reason
    if source.kind == "gitlab" and error.target.startswith("/users/sign_in"):
        return "redirected to GitLab's sign-in page, which it shows if there is no such account"
    return f"{error.reason}: if the account was renamed, name the new one in the configuration"


async def fetch_file(path: str, read_file: ReadFile, seconds: float, *, limit: int) -> bytes:
    """The whole of a file, if it has no more than `limit` bytes, within `seconds`. Raises FetchError."""
    try:
        async with asyncio.timeout(seconds):
            text = await read_file(path)
    except TimeoutError:
        raise FetchError(no_answer(seconds)) from None
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror or error}"
        raise FetchError(reason, gone=isinstance(error, FileNotFoundError)) from error
    if len(text) > limit:
        raise FetchError(f"{path} is larger than {limit} bytes")
    return text

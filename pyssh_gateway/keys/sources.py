"""Where people's keys come from: what a source is called, and how its text is got.

`fetch` gives the text or says in one sentence why there is none; it never gives part of a text. What the text means
is for core.authorized_keys, and which keys stay in force after a failure is for keys.keyring.
"""

import asyncio
import contextlib
import errno
import threading
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec

from pyssh_gateway.config import check_source_spec
from pyssh_gateway.core.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.keys.download import FetchError, fetch_url, no_answer

ReadFile = Callable[[str], Awaitable[bytes]]
"""Reads a whole file, by a process that may: at most MAX_KEYS_BYTES + 1 bytes. Raises OSError."""

T = TypeVar("T")


class Source(msgspec.Struct, frozen=True):
    """One place that keys come from. `spec` is how the configuration names it, `value` the part after the kind."""

    spec: str
    kind: Literal["github", "file", "url"]
    value: str


class SourceError(ValueError):
    """A spec that names no source. The message says what is wrong and what was expected."""


def parse_source(spec: str) -> Source:
    """What `github:<login>`, `file:/<path>` or `url:https://...` names. Raises SourceError."""
    problem = check_source_spec(spec)
    if problem is not None:
        raise SourceError(problem)
    kind, _, value = spec.partition(":")
    return msgspec.convert({"spec": spec, "kind": kind, "value": value}, Source)


def url_of(source: Source, github_url: str) -> str:
    """The address that a `github` or `url` source is read from."""
    if source.kind == "github":
        return f"{github_url.rstrip('/')}/{source.value}.keys"
    return source.value


async def fetch(source: Source, *, github_url: str, seconds: float, read_file: ReadFile) -> bytes:
    """The whole text of `source`, at most MAX_KEYS_BYTES, within `seconds`. Raises FetchError."""
    try:
        async with asyncio.timeout(seconds):
            if source.kind == "file":
                return await _fetch_file(source.value, read_file)
            url, not_found = url_of(source, github_url), _not_found(source)
            return await in_daemon_thread(lambda: fetch_url(url, seconds, not_found=not_found), name="fetch-keys")
    except TimeoutError:
        raise FetchError(no_answer(seconds)) from None
    except OSError as error:
        raise FetchError(f"{source.spec}: {error.strerror or error}") from error


def _not_found(source: Source) -> str:
    return "no such account (404)" if source.kind == "github" else "nothing there (404)"


async def _fetch_file(path: str, read_file: ReadFile) -> bytes:
    try:
        text = await read_file(path)
    except OSError as error:
        raise FetchError(f"cannot read {path}: {error.strerror or error}") from error
    if len(text) > MAX_KEYS_BYTES:
        raise FetchError(f"{path} is larger than {MAX_KEYS_BYTES} bytes")
    return text


async def in_daemon_thread(work: Callable[[], T], *, name: str) -> T:
    """Run `work` in a thread that nobody waits for but this coroutine; what it raises is raised here.

    Cancelling gives `work` up without stopping it, and what comes of it is dropped. Raises OSError if the machine
    gives us no thread.
    """
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is awaited
            errors.append(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finished.set)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:  # "can't start new thread": what the users run may have taken them all
        raise OSError(errno.EAGAIN, "no thread could be started") from error
    await finished.wait()
    if errors:
        raise errors[0]
    return results[0]

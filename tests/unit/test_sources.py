"""keys.sources: what a source is called, and fetching that holds up nobody."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pyssh_gateway.core.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.keys.download import FetchError
from pyssh_gateway.keys.sources import Source, SourceError, fetch, in_daemon_thread, parse_source, url_of
from tests.support import github as gh
from tests.support.github import FakeGitHub

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
PATIENCE = 10.0  # seconds for what should be over at once
IMPATIENCE = 0.25  # seconds for what never ends


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A GitHub whose answers the test writes; afterwards no download may be left over."""
    with FakeGitHub() as server:
        yield server
    for thread in threading.enumerate():
        if thread.name == "fetch-keys":
            thread.join(PATIENCE)
            assert not thread.is_alive()


async def no_files(path: str) -> bytes:
    """A reader for tests in which no file should be read."""
    raise AssertionError(path)


def get(github: FakeGitHub, seconds: float = PATIENCE, spec: str = "github:example") -> bytes:
    """What a fetch gives."""
    return asyncio.run(fetch(parse_source(spec), github_url=github.url, seconds=seconds, read_file=no_files))


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        ("github:example", Source("github:example", "github", "example")),
        ("file:/data/keys/team.pub", Source("file:/data/keys/team.pub", "file", "/data/keys/team.pub")),
        ("url:https://keys.example/team", Source("url:https://keys.example/team", "url", "https://keys.example/team")),
        ("url:http://127.0.0.1:8000/", Source("url:http://127.0.0.1:8000/", "url", "http://127.0.0.1:8000/")),
    ],
)
def test_parses_the_sources_that_the_configuration_names(spec: str, source: Source) -> None:
    """Protects: the three ways to write where keys come from."""
    assert parse_source(spec) == source


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "example",
        "github:",
        "github:a/b",
        "github:..",
        "github:example#583231",
        "file:relative",
        "ftp://x",
        "url:http://keys.example/team",
        "url:https://user:password@keys.example/",
        "url:file:///etc/passwd",
        "url:https://keys.example/a b",
        "github:a\r\nHost: other",
    ],
)
def test_refuses_a_spec_that_names_no_source(spec: str) -> None:
    """Protects: nothing is guessed; above all a pinned account id is not silently dropped."""
    with pytest.raises(SourceError, match="expected"):
        parse_source(spec)


@pytest.mark.parametrize(
    ("spec", "base", "url"),
    [
        ("github:example", "https://github.com", "https://github.com/example.keys"),
        ("github:example", "https://ghe.example/", "https://ghe.example/example.keys"),
        ("github:example", "https://ghe.example/hub", "https://ghe.example/hub/example.keys"),
        ("url:https://keys.example/team?x=1", "https://github.com", "https://keys.example/team?x=1"),
    ],
)
def test_builds_the_address(spec: str, base: str, url: str) -> None:
    """Protects: an account's keys are asked for where GitHub, or a GitHub Enterprise, has them."""
    assert url_of(parse_source(spec), base) == url


def get_file(content: bytes | OSError, seconds: float = PATIENCE) -> bytes:
    """What a `file:` source gives whose file has that content."""

    async def read_file(path: str) -> bytes:
        assert path == "/keys/team.pub"
        if isinstance(content, OSError):
            raise content
        return content

    source = parse_source("file:/keys/team.pub")
    return asyncio.run(fetch(source, github_url="", seconds=seconds, read_file=read_file))


@pytest.mark.parametrize("content", [b"", KEY.encode(), b"\xff\0 is for the parser", b"x" * MAX_KEYS_BYTES])
def test_reads_a_file(content: bytes) -> None:
    """Protects: a file is given as it is; whoever wrote it is not on the network."""
    assert get_file(content) == content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory"), "cannot read /keys/team.pub: No such file or directory"),
        (PermissionError(13, "Permission denied"), "cannot read /keys/team.pub: Permission denied"),
        (OSError("the spawner is gone"), "cannot read /keys/team.pub: the spawner is gone"),
        (b"x" * (MAX_KEYS_BYTES + 1), f"/keys/team.pub is larger than {MAX_KEYS_BYTES} bytes"),
    ],
)
def test_says_why_a_file_is_not_usable(content: bytes | OSError, reason: str) -> None:
    """Protects: a missing, unreadable or enormous file is a reason, with its path, and not an empty list."""
    with pytest.raises(FetchError) as caught:
        get_file(content)
    assert caught.value.reason == reason


def test_gives_up_on_a_file_that_hangs() -> None:
    """Protects: a dead network file system holds up a refresh, not the server."""

    async def read_file(_path: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    fetching = fetch(parse_source("file:/x"), github_url="", seconds=0.01, read_file=read_file)
    with pytest.raises(FetchError, match=r"no answer within 0\.01 s"):
        asyncio.run(fetching)


def test_a_thread_that_hangs_holds_up_neither_loop_nor_process() -> None:
    """Protects: a name server that never answers cannot keep the machine from stopping."""
    script = """
import asyncio, threading
from pyssh_gateway.keys.sources import in_daemon_thread

async def main():
    try:
        async with asyncio.timeout(0.05):
            await in_daemon_thread(threading.Event().wait, name="hanging")
    except TimeoutError:
        print("gave up", flush=True)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("gave up\n", "")


def test_a_thread_that_ends_after_the_loop_says_nothing() -> None:
    """Protects: a download that was given up does not print a traceback into the log when it ends at last."""
    gate = threading.Event()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_daemon_thread(gate.wait, name="late")

    asyncio.run(give_up())
    (late,) = (thread for thread in threading.enumerate() if thread.name == "late")
    gate.set()
    late.join(PATIENCE)
    assert not late.is_alive()


def test_no_thread_to_be_had_is_a_failed_fetch(github: FakeGitHub) -> None:
    """Protects: users who have used up all processes do not bring the server down with the next refresh."""
    github.script("example", gh.keys(KEY))
    earlier = threading.stack_size(1 << 46)  # more than there is address space: no thread can start
    try:
        with pytest.raises(FetchError, match="no thread could be started"):
            get(github)
    finally:
        threading.stack_size(earlier)
    assert get(github) == f"{KEY}\n".encode()


def test_a_bug_in_a_thread_is_raised_where_it_is_awaited() -> None:
    """Protects: bugs crash loudly instead of disappearing in a thread."""

    def buggy() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_daemon_thread(buggy, name="buggy"))

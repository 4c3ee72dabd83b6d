"""keys.sources: names and URLs of sources, and fetching that blocks nothing."""

import asyncio
import subprocess
import sys
import threading

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.keys.http_answer import Answer, FetchError
from pyssh_gateway.keys.sources import (
    Source,
    SourceError,
    fetch,
    in_daemon_thread,
    origin_of,
    parse_source,
    person_of,
    url_of,
)
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.waiting import PATIENCE

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
PATIENT = config.Keys(timeout=config.Duration(PATIENCE))


async def no_files(path: str) -> bytes:
    """A reader of files for tests that must not read one."""
    raise AssertionError(path)


def get(github: FakeGitHub, spec: str = "github:example") -> Answer:
    """The answer of a fetch, with all providers at the same server."""
    settings = config.Keys(
        timeout=config.Duration(PATIENCE),
        github_url=github.url,
        gitlab_url=github.url,
        codeberg_url=github.url,
        launchpad_url=github.url,
        sourcehut_url=github.url,
    )
    return asyncio.run(fetch(parse_source(spec), settings, no_files))


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        ("github:example", Source("github:example", "github", "example")),
        ("github:example#583231", Source("github:example#583231", "github", "example", 583231)),
        ("github-team:example/ops", Source("github-team:example/ops", "github-team", "example/ops")),
        ("gitlab:example", Source("gitlab:example", "gitlab", "example")),
        ("codeberg:example", Source("codeberg:example", "codeberg", "example")),
        ("launchpad:example", Source("launchpad:example", "launchpad", "example")),
        ("sourcehut:~example", Source("sourcehut:example", "sourcehut", "example")),
        ("file:/data/keys/team.pub", Source("file:/data/keys/team.pub", "file", "/data/keys/team.pub")),
        ("file:/data/keys/#1", Source("file:/data/keys/#1", "file", "/data/keys/#1")),
        ("ca:/data/keys/ca.pub", Source("ca:/data/keys/ca.pub", "ca", "/data/keys/ca.pub")),
        ("url:https://keys.example/team", Source("url:https://keys.example/team", "url", "https://keys.example/team")),
        ("url:http://127.0.0.1:8000/", Source("url:http://127.0.0.1:8000/", "url", "http://127.0.0.1:8000/")),
    ],
)
def test_parses_the_sources_that_the_configuration_names(spec: str, source: Source) -> None:
    """Each way to write a source is parsed, including a pinned number."""
    assert parse_source(spec) == source
    assert parse_source(source.spec) == source


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "example",
        "github:",
        "github:a/b",
        "github:..",
        "github:example#",
        "github:example#one",
        "gitlab:example#583231",
        "github-team:example",
        "file:relative",
        "ca:relative",
        "ftp://x",
        "url:http://keys.example/team",
        "url:https://user:password@keys.example/",
        "url:file:///etc/passwd",
        "url:https://keys.example/a b",
        "github:a\r\nHost: other",
    ],
)
def test_refuses_a_spec_that_names_no_source(spec: str) -> None:
    """A malformed source is refused; above all, a wrong number is never silently dropped."""
    with pytest.raises(SourceError, match="expected"):
        parse_source(spec)


PLACES = config.Keys(
    github_url="https://ghe.example:8443/hub",
    gitlab_url="https://gitlab.example",
    codeberg_url="https://[2001:db8::1]",
    launchpad_url="https://lp.example:443",
    sourcehut_url="http://127.0.0.1:80",
)


@pytest.mark.parametrize(
    ("spec", "settings", "url", "origin"),
    [
        ("github:a", config.Keys(), "https://github.com/a.keys", "https://github.com"),
        ("github:a#1", config.Keys(), "https://github.com/a.keys", "https://github.com"),
        ("github-team:a/b", config.Keys(), "", "https://api.github.com"),
        ("gitlab:a", config.Keys(), "https://gitlab.com/a.keys", "https://gitlab.com"),
        ("codeberg:a", config.Keys(), "https://codeberg.org/a.keys", "https://codeberg.org"),
        ("launchpad:a", config.Keys(), "https://launchpad.net/~a/+sshkeys", "https://launchpad.net"),
        ("sourcehut:a", config.Keys(), "https://meta.sr.ht/~a.keys", "https://meta.sr.ht"),
        ("github:a", PLACES, "https://ghe.example:8443/hub/a.keys", "https://ghe.example:8443"),
        ("github-team:a/b", PLACES, "", "https://ghe.example:8443"),
        ("gitlab:a", PLACES, "https://gitlab.example/a.keys", "https://gitlab.example"),
        ("codeberg:a", PLACES, "https://[2001:db8::1]/a.keys", "https://[2001:db8::1]"),
        ("launchpad:a", PLACES, "https://lp.example:443/~a/+sshkeys", "https://lp.example"),
        ("sourcehut:a", PLACES, "http://127.0.0.1:80/~a.keys", "http://127.0.0.1"),
        ("url:https://Keys.Example/team?x=1", PLACES, "https://Keys.Example/team?x=1", "https://keys.example"),
        ("file:/x", PLACES, "", ""),
        ("ca:/x", PLACES, "", ""),
    ],
)
def test_knows_the_address_and_the_server(spec: str, settings: config.Keys, url: str, origin: str) -> None:
    """Keys are requested from the provider's URL, or from that of a configured instance."""
    assert url_of(parse_source(spec), settings) == url
    assert origin_of(parse_source(spec), settings) == origin


@pytest.mark.parametrize(
    ("spec", "person"),
    [
        ("github:example#583231", "github:example"),
        ("gitlab:example", "gitlab:example"),
        ("launchpad:~example", "launchpad:example"),
        ("file:/x#1", "file:/x#1"),
        ("url:https://keys.example/a", "url:https://keys.example/a"),
    ],
)
def test_names_the_person(spec: str, person: str) -> None:
    """The log names the same person whether or not the account is pinned."""
    assert person_of(parse_source(spec)) == person


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("github:example", "example"),
        ("gitlab:example", "example"),
        ("codeberg:example", "example"),
        ("launchpad:example", "~example/+sshkeys"),
        ("sourcehut:example", "~example"),
    ],
)
def test_fetches_from_every_provider(github: FakeGitHub, spec: str, path: str) -> None:
    """Each provider is asked at its own URL."""
    github.script(path, gh.keys(KEY))
    assert get(github, spec).text == f"{KEY}\n".encode()
    assert github.requests == {path: 1}


@pytest.mark.parametrize("spec", ["github:example", "gitlab:example", "codeberg:example", "url:{}/example"])
@pytest.mark.parametrize("code", [404, 410])
def test_says_when_there_is_nothing_any_more(github: FakeGitHub, spec: str, code: int) -> None:
    """An account that is gone is told apart from one that can't be reached, in the right words."""
    github.script("example", gh.status(code))
    with pytest.raises(FetchError) as caught:
        get(github, spec.format(github.url))
    assert caught.value.gone
    assert caught.value.reason == ("nothing there" if "url" in spec else "no such account") + f" ({code})"


def test_explains_gitlab_s_sign_in_page(github: FakeGitHub) -> None:
    """A mistyped GitLab login, which leads to a sign-in page, is reported as such."""
    github.script("example", gh.redirect("/users/sign_in"))
    github.script("users/sign_in", gh.html())
    with pytest.raises(FetchError, match=r"GitLab's sign-in page, which it shows if there is no") as caught:
        get(github, "gitlab:example")
    assert not caught.value.gone


def test_a_team_has_no_text_of_its_own(github: FakeGitHub) -> None:
    """Fetching a team as if it had a text of its own fails at once, without a request."""
    with pytest.raises(ValueError, match="github-team:a/b has no text"):
        get(github, "github-team:a/b")
    assert github.requests.total() == 0


def get_file(content: bytes | OSError, spec: str = "file:/keys/team.pub") -> bytes | None:
    """The text of a source whose file has that content."""

    async def read_file(path: str) -> bytes:
        assert path == "/keys/team.pub"
        if isinstance(content, OSError):
            raise content
        return content

    return asyncio.run(fetch(parse_source(spec), PATIENT, read_file)).text


@pytest.mark.parametrize("spec", ["file:/keys/team.pub", "ca:/keys/team.pub"])
@pytest.mark.parametrize("content", [b"", KEY.encode(), b"\xff\0 is for the parser", b"x" * MAX_KEYS_BYTES])
def test_reads_a_file(content: bytes, spec: str) -> None:
    """The content of a file is returned unchanged, for the parser to judge."""
    assert get_file(content, spec) == content


@pytest.mark.parametrize(
    ("content", "reason", "gone"),
    [
        (FileNotFoundError(2, "No such file or directory"), "cannot read /keys/team.pub: No such file", True),
        (PermissionError(13, "Permission denied"), "cannot read /keys/team.pub: Permission denied", False),
        (OSError("the spawner is gone"), "cannot read /keys/team.pub: the spawner is gone", False),
        (b"x" * (MAX_KEYS_BYTES + 1), f"/keys/team.pub is larger than {MAX_KEYS_BYTES} bytes", False),
    ],
)
def test_says_why_a_file_is_not_usable(content: bytes | OSError, reason: str, gone: bool) -> None:
    """A missing, unreadable or huge file is an error with its path, and no empty list."""
    with pytest.raises(FetchError) as caught:
        get_file(content)
    assert caught.value.reason.startswith(reason)
    assert caught.value.gone == gone
    assert caught.value.retry_after is None


def test_gives_up_on_a_file_that_hangs() -> None:
    """A network file system that hangs delays a refresh, and not the server."""

    async def read_file(_path: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    fetching = fetch(parse_source("file:/x"), config.Keys(timeout=config.Duration(0.01)), read_file)
    with pytest.raises(FetchError, match=r"no answer within 0\.01 s"):
        asyncio.run(fetching)


def test_a_thread_that_hangs_holds_up_neither_loop_nor_process() -> None:
    """A thread that hangs, as with a name server that never answers, blocks neither event loop nor process."""
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
    """A download that was abandoned prints no traceback when it ends at last."""
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
    """If no thread can be started, as when users have used up all processes, the fetch fails and the server goes on."""
    github.script("example", gh.keys(KEY))
    earlier = threading.stack_size(1 << 46)  # more than the address space, so no thread can start
    try:
        with pytest.raises(FetchError, match="no thread could be started"):
            get(github)
    finally:
        threading.stack_size(earlier)
    assert get(github).text == f"{KEY}\n".encode()


def test_a_bug_in_a_thread_is_raised_where_it_is_awaited() -> None:
    """An exception in the thread is raised where its result is awaited."""

    def buggy() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_daemon_thread(buggy, name="buggy"))


def test_the_http_client_is_not_on_the_way_to_the_first_login() -> None:
    """A start imports no HTTP client, which only the first fetch needs."""
    script = "import sys; from pyssh_gateway.keys import github, sources; print({'http', 'email'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "set()\n"

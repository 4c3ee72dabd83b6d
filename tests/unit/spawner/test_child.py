"""From the fork to a child's work: what the child keeps and loses, and that it never runs the spawner's code again."""

import fcntl
import json
import os
import pwd
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup
from tests.support import leaks
from tests.support.chroots import roots_own_directory
from tests.support.spawning import ended
from tests.support.waiting import until

IS_ROOT = os.geteuid() == 0
USER = pwd.getpwnam("nobody") if IS_ROOT else pwd.getpwuid(os.geteuid())

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open, or changes the blocked signals."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with leaks.nothing_left_open():
        yield
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def told(look: Callable[[], object], setup: Setup | None = None) -> object:
    """The result of `look` in a child with this setup, which returns it over an additional descriptor."""
    reader, writer = os.pipe()
    setup = setup or Setup(descriptors=(NULL, NULL, NULL))
    assert setup.descriptors is not None
    there = len(setup.descriptors)

    def work() -> int:
        os.write(there, json.dumps(look()).encode())
        return 0

    try:
        pid = child.start(msgspec.structs.replace(setup, descriptors=(*setup.descriptors, writer)), work)
    finally:
        os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    assert ended(pid) == 0, said
    return json.loads(said)


def open_now() -> list[int]:
    """The open descriptors, without the one used to list them."""
    numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    return [number for number in numbers if is_open(number)]


def is_open(number: int) -> bool:
    """Whether the number is an open descriptor."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# -- descriptors ------------------------------------------------------------------------------------------------------


def test_nothing_else_stays_open() -> None:
    """A child has only its own descriptors, inheritable or not: a copy of a client's socket would delay its FIN."""
    extra = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    for number in extra[::2]:
        os.set_inheritable(number, True)
    try:
        assert told(open_now) == [0, 1, 2, 3]
    finally:
        for number in extra:
            os.close(number)


def test_what_is_kept_stays_under_its_number() -> None:
    """Kept descriptors keep their numbers, which the monitor's socket objects know."""
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(6)]
    kept = frozenset({files[1], files[4]})
    try:
        setup = Setup(descriptors=(NULL, NULL, NULL), kept=kept)
        assert told(open_now, setup) == [0, 1, 2, 3, *sorted(kept)]
    finally:
        for number in files:
            os.close(number)


@pytest.mark.parametrize("number", [0, 2])
def test_what_is_kept_may_not_stand_where_others_go(number: int) -> None:
    """A kept descriptor must not have a number where another goes, which is refused before the fork."""
    with pytest.raises(ValueError, match="stands where"):
        child.start(Setup(kept=frozenset({number})), lambda: 0)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0, 3, 2, 4), (2, 2, 2, 0, 0), (1, 2, 3, 4, 0)])
@pytest.mark.parametrize("first", [0, 3, 20])
def test_descriptors_that_stand_where_others_go(order: tuple[int, ...], first: int) -> None:
    """Each descriptor gets its number, whatever was open there before, and survives an exec."""
    pid = os.fork()
    if pid == 0:  # a process with only five files, which differ, from number `first` on
        code = 1
        try:
            made = [os.memfd_create(f"file-{number}") for number in range(5)]
            for number, file in enumerate(made):
                os.write(file, str(number).encode())
            for number, file in enumerate([fcntl.fcntl(file, fcntl.F_DUPFD, 100) for file in made]):
                os.dup2(file, first + number)
            if first:  # os.closerange(0, 0) would close everything
                os.closerange(0, first)
            os.closerange(first + 5, 200)

            def work() -> int:
                found = [os.pread(number, 1, 0).decode() for number in range(5)]
                inherited = all(os.get_inheritable(number) for number in range(5))
                return 0 if (found, inherited) == ([str(number) for number in order], True) else 2

            setup = Setup(descriptors=tuple(first + number for number in order))
            code = os.waitstatus_to_exitcode(os.waitpid(child.start(setup, work), 0)[1])
        finally:
            os._exit(code)
    assert ended(pid) == 0


def test_the_standard_descriptors_are_left_alone_if_so_wanted() -> None:
    """The standard descriptors can be kept, as by the monitor, whose log goes to the server's output."""
    reader, writer = os.pipe()
    pid = child.start(Setup(kept=frozenset({writer})), lambda: os.write(writer, json.dumps(open_now()).encode()) and 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert json.load(answer) == [0, 1, 2, writer]
    assert ended(pid) == 0


def test_readiness_is_the_end_of_the_way() -> None:
    """The descriptor to poll ends when the work begins, and neither earlier nor only at the child's end."""
    go, release = os.pipe()
    hold, holding = os.pipe()

    def prepare() -> None:
        os.close(release)
        os.read(go, 1)

    def work() -> int:
        os.read(hold, 1)
        return 0

    pid, ready = child.begin(Setup(kept=frozenset({go, hold, release}), prepare=prepare), work)
    os.set_blocking(ready, False)
    with pytest.raises(BlockingIOError):
        os.read(ready, 1)
    os.close(release)
    until(lambda: at_end(ready), what="readiness")
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    for number in (holding, go, hold, ready):
        os.close(number)
    assert ended(pid) == 0


def at_end(descriptor: int) -> bool:
    """Whether the other end is closed."""
    try:
        return os.read(descriptor, 1) == b""
    except BlockingIOError:
        return False


def test_a_child_that_dies_on_its_way_is_no_longer_waited_for() -> None:
    """If the child dies before its work begins, the descriptor ends, too."""
    pid, ready = child.begin(Setup(prepare=lambda: os.kill(os.getpid(), signal.SIGKILL)), lambda: 0)
    assert os.read(ready, 1) == b""
    os.close(ready)
    assert ended(pid) == -signal.SIGKILL


# -- signals ----------------------------------------------------------------------------------------------------------


def test_every_signal_has_its_default_and_is_let_in() -> None:
    """Every signal has its default handler and none is blocked; Python ignores SIGPIPE and SIGXFSZ, we handle some."""
    previous = {
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda _number, _frame: None),
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    def look() -> object:
        state = Path("/proc/self/status").read_text().splitlines()
        sets = dict(line.split(":") for line in state)
        ours = sum(1 << number - 1 for number in signal.valid_signals())
        handled = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        return [handled, *(int(sets[name], 16) & ours for name in ("SigBlk", "SigIgn"))]

    try:
        assert told(look) == [False, 0, 0]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        for number, handler in previous.items():
            signal.signal(number, handler)


def test_signals_are_thrown_away_if_so_wanted() -> None:
    """Signals can be ignored: a SIGHUP to all processes is for others, and a closed peer must be an error to handle."""
    ignored = frozenset({signal.SIGHUP, signal.SIGPIPE})

    def look() -> list[bool]:
        os.kill(os.getpid(), signal.SIGHUP)
        return [signal.getsignal(number) == signal.SIG_IGN for number in sorted(ignored)]

    assert told(look, Setup(descriptors=(NULL, NULL, NULL), ignored=ignored)) == [True, True]


def test_a_signal_between_fork_and_handlers_is_the_childs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal before the child has set its handlers acts on the child, and does not reach the spawner's handler."""
    counted, wakeup = os.pipe2(os.O_NONBLOCK)
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    previous = signal.set_wakeup_fd(wakeup)
    real = os.fork

    def fork() -> int:
        pid = real()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return pid

    monkeypatch.setattr(os, "fork", fork)
    try:
        pid = child.start(Setup(), lambda: 0)
        assert ended(pid) == -signal.SIGTERM
        with pytest.raises(BlockingIOError):
            os.read(counted, 1)
    finally:
        signal.set_wakeup_fd(previous)
        signal.signal(signal.SIGTERM, before)
        os.close(counted)
        os.close(wakeup)


def test_the_spawner_hears_signals_that_came_while_it_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop signal that arrives during the fork reaches the spawner."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    real = os.fork

    def fork() -> int:
        signal.raise_signal(signal.SIGTERM)  # to this thread, as a test runner may have others
        assert not heard
        return real()

    monkeypatch.setattr(os, "fork", fork)
    try:
        assert ended(child.start(Setup(), lambda: 0)) == 0
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


# -- what else it gets and gives up -----------------------------------------------------------------------------------


def test_it_leads_a_session_and_has_the_systems_mask_and_the_root_directory() -> None:
    """Nothing depends on where the server was started: own session, system's umask, and / as directory."""
    previous = os.umask(0o077)
    try:

        def look() -> list[object]:
            alone = os.getsid(0) == os.getpgid(0) == os.getpid()
            return [alone, os.umask(0), str(Path.cwd())]

        assert told(look) == [True, 0o022, "/"]
        unchanged = Setup(descriptors=(NULL, NULL, NULL), umask=None, directory=None)
        assert told(look, unchanged) == [True, 0o077, str(Path.cwd())]
    finally:
        os.umask(previous)


def test_limits_are_given_back() -> None:
    """Sessions get the limits from before the server raised its own; its own processes get the maximum."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    inherited = Inherited((200, hard))

    def look() -> tuple[int, int]:
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    assert told(look, Setup(descriptors=(NULL, NULL, NULL), inherited=inherited)) == [200, hard]
    own = Setup(descriptors=(NULL, NULL, NULL), inherited=inherited.for_server_process())
    assert told(look, own) == [hard, hard]


@pytest.mark.parametrize(("before", "own"), [(None, None), (0, -500), (-900, -900)])
def test_the_servers_own_processes_are_protected_from_a_lack_of_memory(before: int | None, own: int | None) -> None:
    """The server's processes are killed after users', and never earlier than before; strangers' are like users'."""
    assert Inherited((10, 20), before).for_server_process().oom_score == own
    assert Inherited((10, 20), before).for_stranger() == Inherited((20, 20), before)


@needs_root
def test_it_becomes_the_account_with_its_groups_and_for_good() -> None:
    """All three ids and the groups are the account's, for good; `prepare` runs before, with the server's rights."""
    rights: list[int] = []

    def look() -> list[object]:
        try:
            os.setuid(0)
        except PermissionError:
            return [rights, os.getresuid(), os.getresgid(), sorted(os.getgroups())]
        return []

    setup = Setup(descriptors=(NULL, NULL, NULL), account=USER, prepare=lambda: rights.append(os.geteuid()))
    groups = sorted(os.getgrouplist(USER.pw_name, USER.pw_gid))
    assert told(look, setup) == [[0], [USER.pw_uid] * 3, [USER.pw_gid] * 3, groups]


# -- another root directory -------------------------------------------------------------------------------------------


@needs_root
def test_another_root_directory_and_no_rights() -> None:
    """In its own root directory a child is the account with its groups, and has no descriptor that leads outside."""

    def look() -> object:
        return [os.listdir("/"), os.getcwd(), os.getresuid(), os.getgroups(), open_now()]  # noqa: PTH109, PTH208

    def open_now() -> list[bool]:
        return [is_open(number) for number in range(20)]

    with roots_own_directory() as root:
        (root / "only").touch()
        setup = Setup(descriptors=(NULL, NULL, NULL), account=USER, root=os.fsencode(root))
        expected = [["only"], "/", [USER.pw_uid] * 3, os.getgrouplist(USER.pw_name, USER.pw_gid)]
        assert told(look, setup) == [*expected, [True] * 4 + [False] * 16]


@pytest.mark.parametrize("root", [b"/run/pyssh-test-missing", b"/tmp"])
def test_no_work_without_the_root_directory(root: bytes, tmp_path: Path) -> None:
    """A child that can't enter its root directory does not begin, and says why: it is missing, or we are not root."""
    (tmp_path / "said").touch()
    with (tmp_path / "said").open("wb") as said:
        setup = Setup(descriptors=(NULL, NULL, said.fileno()), account=USER, root=root, failed=9)
        assert ended(child.start(setup, lambda: 0)) == 9
    expected = root.decode() if IS_ROOT else "only a server that runs as root"
    assert expected in (tmp_path / "said").read_text()

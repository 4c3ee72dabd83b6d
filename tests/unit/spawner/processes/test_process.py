"""Users' processes: what they get, what they don't, and what happens when they can't run."""

import os
import pwd
import resource
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.spawner.processes import program
from pyssh_gateway.spawner.processes.process import Child, SpawnError, find_account, hang_up, start
from pyssh_gateway.spawner.processes.program import CANNOT_EXEC
from pyssh_gateway.system import sftp_program
from tests.support import leaks
from tests.support.spawning import have_one_ahead, ready, session_children
from tests.support.waiting import PATIENCE

IS_ROOT = os.geteuid() == 0
USER = pwd.getpwnam("nobody") if IS_ROOT else pwd.getpwuid(os.geteuid())
"""The account that the processes run as: another one, if possible."""

TERMINAL = Terminal("xterm", 80, 24, 0, 0, ())

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can start processes as somebody else")
started: list[Child] = []
is_ahead = False


@pytest.fixture(autouse=True, params=[False, True], ids=["forked then", "forked ahead"])
def forked(request: pytest.FixtureRequest) -> None:
    """Runs each test both ways: a session does not depend on when its process was forked."""
    global is_ahead  # noqa: PLW0603 - all that is launched asks for it
    is_ahead = request.param


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Ends each test's processes and closes their descriptors."""
    with leaks.nothing_left_open():
        yield
        while started:
            child = started.pop()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            for descriptor in child.descriptors:
                with suppress(OSError):
                    os.close(descriptor)
            with suppress(ChildProcessError):
                os.waitpid(child.pid, 0)


def launch(script: str, *, terminal: Terminal | None = None, **changes: object) -> Child:
    """Start a shell script."""
    values: dict[str, object] = {
        "user": USER.pw_name,
        "executable": b"/bin/sh",
        "argv": (b"sh", b"-c", script.encode()),
        "env": {b"PATH": b"/usr/bin:/bin"},
        "cwd": b"/",
        "terminal": terminal,
        "greet": False,
    }
    plan = LaunchPlan(**(values | changes))  # type: ignore[arg-type]  # fields by name
    account = find_account(plan.user)
    starts = session_children()
    if is_ahead:
        have_one_ahead(starts.ahead)
    child = ready(start(plan, account, starts.begin))
    assert starts.ahead.pids == set()
    started.append(child)
    return child


def read(descriptor: int) -> bytes:
    """Read to the end (for a pty: until no process has it open)."""
    data = b""
    deadline = time.monotonic() + PATIENCE
    while True:
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, f"nothing more within {PATIENCE} s after {data!r}"
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:
            return data
        if not chunk:
            return data
        data += chunk


def read_until(descriptor: int, text: bytes) -> bytes:
    """Read up to `text`."""
    data = b""
    while text not in data:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert ready, data
        chunk = os.read(descriptor, 1)
        assert chunk, data
        data += chunk
    return data


def result(child: Child) -> tuple[bytes, bytes, int]:
    """Output, errors (empty for a pty) and exit code, negative for a signal."""
    out = read(child.descriptors[0] if child.tty else child.descriptors[1])
    err = b"" if child.tty else read(child.descriptors[2])
    _, status = os.waitpid(child.pid, 0)
    return out, err, os.waitstatus_to_exitcode(status)


def test_it_runs_with_three_pipes() -> None:
    """Input, output and errors are separate pipes, and the exit code is reported."""
    child = launch("read line; echo out:$line; echo err >&2; exit 7")
    stdin, stdout, stderr = child.descriptors
    assert (child.tty, child.uid) == ("", USER.pw_uid)
    os.write(stdin, b"text\n")
    assert result(child) == (b"out:text\n", b"err\n", 7)
    assert not any(os.get_inheritable(descriptor) for descriptor in (stdin, stdout, stderr))


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_codes(code: int) -> None:
    """Every exit code is reported."""
    assert result(launch(f"exit {code}"))[2] == code


def test_death_by_a_signal() -> None:
    """Death by a signal is reported."""
    assert result(launch("kill -TERM $$"))[2] == -signal.SIGTERM


def test_identity() -> None:
    """Real, effective and saved ids and the groups are exactly the account's."""
    out, _, _ = result(launch("grep -E '^(Uid|Gid|Groups)' /proc/self/status"))
    fields = {line.split(b":")[0]: [int(word) for word in line.split()[1:]] for line in out.splitlines()}
    assert fields[b"Uid"] == [USER.pw_uid] * 4
    assert fields[b"Gid"] == [USER.pw_gid] * 4
    assert sorted(set(fields[b"Groups"])) == sorted(
        set(os.getgrouplist(USER.pw_name, USER.pw_gid) if IS_ROOT else os.getgroups())
    )


@needs_root
def test_there_is_no_way_back_to_root() -> None:
    """An account's process has no capability, with which it could become root again."""
    out, _, _ = result(launch("grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status"))
    assert all(int(line.split()[1], 16) == 0 for line in out.splitlines())


@pytest.mark.parametrize("terminal", [None, TERMINAL])
def test_nothing_is_inherited(terminal: Terminal | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the server's is inherited: descriptors, environment, directory, umask, limits."""
    monkeypatch.setenv("PYSSH_SECRET", "x")
    extra = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    for descriptor in extra:
        os.set_inheritable(descriptor, True)
    script = "ls /proc/$$/fd; echo; tr '\\0' '\\n' < /proc/$$/environ; echo; pwd; umask; ulimit -Sn; ulimit -Hn"
    out, _, _ = result(launch(script, terminal=terminal))
    for descriptor in extra:
        os.close(descriptor)
    descriptors, env, rest = out.replace(b"\r", b"").split(b"\n\n")
    # A shell may keep another descriptor for itself, from 10 on.
    assert descriptors.split()[:3] == [b"0", b"1", b"2"]
    assert all(int(number) >= 10 for number in descriptors.split()[3:])
    assert sorted(line.partition(b"=")[0] for line in env.split()) == ([b"PATH", b"SSH_TTY"] if terminal else [b"PATH"])
    assert rest.split() == [b"/", b"0022", b"512", b"1024"]


def test_signals_are_as_in_a_new_login() -> None:
    """No signal is ignored or blocked, although Python ignores SIGPIPE and a test runner may ignore more."""
    previous = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        out, _, _ = result(launch("grep -E '^Sig(Blk|Ign)' /proc/self/status"))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGUSR1, previous)
    # The C library reserves the first real-time signals; nobody can change how they were inherited.
    ours = sum(1 << number - 1 for number in signal.valid_signals())
    found = {line.split()[0]: int(line.split()[1], 16) & ours for line in out.splitlines()}
    assert found == {b"SigBlk:": 0, b"SigIgn:": 0}


def test_it_leads_a_session_and_a_group() -> None:
    """Session and process group have the process's pid: it can be signalled as a whole, and has lost our terminal."""
    child = launch("echo ready; read line")
    read_until(child.descriptors[1], b"ready\n")
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid


def test_a_terminal_is_the_controlling_one() -> None:
    """/dev/tty works, the device belongs to the user, SSH_TTY names it, and Ctrl-C reaches the foreground group."""
    script = (
        "tty; echo $SSH_TTY; stat -c '%u %a' $SSH_TTY; echo to-tty >/dev/tty; "
        "trap 'echo got INT; exit 3' INT; echo ready; read x"
    )
    child = launch(script, terminal=TERMINAL)
    (master,) = child.descriptors
    said = read_until(master, b"ready\r\n")
    assert said.split()[:2] == [child.tty.encode()] * 2
    assert said.split()[2:5] == [b"%d" % USER.pw_uid, b"620" if IS_ROOT else said.split()[3], b"to-tty"]
    os.write(master, b"\x03")
    out, _, code = result(child)
    assert b"got INT" in out
    assert code == 3


def test_standard_streams_can_be_opened_again() -> None:
    """Scripts can open `/dev/stderr` and `/dev/stdin`, for which the pipes must belong to the user."""
    child = launch("cat /dev/stdin >/dev/stdout; echo err >/dev/stderr")
    os.write(child.descriptors[0], b"in")
    os.close(child.descriptors[0])
    assert result(child) == (b"in", b"err\n", 0)


def test_a_home_that_is_not_there_is_said_and_does_not_keep_out() -> None:
    """A missing home is reported in sshd's words, and the session starts in /."""
    out, err, code = result(launch("pwd", cwd=b"/nonexistent/home"))
    assert (out, code) == (b"/\n", 0)
    assert err == b"Could not chdir to home directory /nonexistent/home: No such file or directory\n"


@pytest.mark.parametrize(
    ("executable", "reason"),
    [
        (b"/no/such/shell", b"No such file or directory"),
        (b"/etc/passwd", b"Permission denied"),
        (b"/", b"Permission denied"),
    ],
)
def test_a_shell_that_cannot_run_is_said(executable: bytes, reason: bytes) -> None:
    """The session ends with sshd's exit status and one line for the user, without a traceback."""
    out, err, code = result(launch("", executable=executable))
    assert (out, err, code) == (b"", executable + b": " + reason + b"\n", CANNOT_EXEC)


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": (b"sh", b"-c", b"a\0b")},
        {"env": {b"A": b"a\0b"}},
        {"env": {b"A=": b""}},
        {"argv": ()},
        {"argv": (b"sh", bytes([1]) * 200_000)},
    ],
    ids=str,
)
def test_what_the_kernel_does_not_take_fails_in_the_child(changes: dict[str, object]) -> None:
    """Arguments with NULs, or above execve(2)'s limits, end the child with one line, and not the spawner."""
    out, err, code = result(launch("", **changes))  # type: ignore[arg-type]  # fields by name
    assert (out, code) == (b"", CANNOT_EXEC)
    assert err.count(b"\n") == 1
    assert b"Traceback" not in err


def test_an_unknown_account_is_refused() -> None:
    """An unknown account is refused before anything is started."""
    with pytest.raises(SpawnError, match="there is no account no-such-user"):
        launch("true", user="no-such-user")


@pytest.mark.skipif(IS_ROOT, reason="root can start processes as anybody")
def test_another_account_is_refused_without_root() -> None:
    """A server of an ordinary account starts processes of that account only."""
    with pytest.raises(SpawnError, match="does not run as root"):
        launch("true", user="root")


@pytest.mark.parametrize("terminal", [None, TERMINAL])
def test_without_descriptors_it_is_refused_and_leaves_none(terminal: Terminal | None) -> None:
    """A full descriptor table refuses the request, and leaves no descriptor open."""
    if is_ahead:
        pytest.skip("with a full table nothing is forked ahead")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(link.name) for link in Path("/proc/self/fd").iterdir())
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, limits[1]))
    try:
        try:
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            os.close(fillers.pop())
        with pytest.raises(SpawnError, match="Too many open files"):
            launch("true", terminal=terminal)
    finally:
        for descriptor in fillers:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_signals_reach_the_whole_group() -> None:
    """`signal` requests reach the whole process group of a session without a terminal, including children."""
    child = launch(
        "sh -c 'trap \"echo inner; exit\" TERM; echo ready; while :; do sleep 0.02; done' & "
        "trap 'wait; echo outer' TERM; wait"
    )
    read_until(child.descriptors[1], b"ready\n")
    os.killpg(child.pid, signal.SIGTERM)
    out, _, _ = result(child)
    assert sorted(out.split()) == [b"inner", b"outer"]


def test_a_signal_for_what_has_ended_is_nothing() -> None:
    """A hang-up after the process's end has no effect."""
    child = launch("true")
    result(child)
    hang_up(child)


def test_a_lost_line_ends_a_terminals_group() -> None:
    """A lost connection sends SIGHUP, also to a stopped job."""
    child = launch("kill -STOP $$; echo survived", terminal=TERMINAL)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    hang_up(child)
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGHUP


@pytest.fixture
def motd(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A message of the day for the test."""
    import tempfile

    with tempfile.NamedTemporaryFile(dir="/tmp", prefix="motd-") as file:
        os.chmod(file.name, 0o644)  # noqa: PTH101 - the file is open
        file.write(b"Welcome\r\nback\n")
        file.flush()
        monkeypatch.setattr(program, "MOTD_FILES", ("/no/such/motd", file.name))
        yield


def test_a_shell_on_a_terminal_is_greeted(motd: None) -> None:
    """A shell gets the message of the day, as with pam_motd; a command does not."""
    out, _, _ = result(launch("echo shell", terminal=TERMINAL, greet=True))
    assert out == b"Welcome\r\nback\r\nshell\r\n"
    out, _, _ = result(launch("echo command", terminal=TERMINAL))
    assert out == b"command\r\n"


def test_a_message_that_two_names_lead_to_is_shown_once(motd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects machines where /etc/motd is a link to /run/motd.dynamic: the message is shown once."""
    monkeypatch.setattr(program, "MOTD_FILES", program.MOTD_FILES * 2)
    assert result(launch("echo shell", terminal=TERMINAL, greet=True))[0] == b"Welcome\r\nback\r\nshell\r\n"


@needs_root
def test_a_home_that_is_closed_to_its_owner_does_not_keep_out(motd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell starts although the user, as whom ~/.hushlogin is looked for, may not read the home."""
    import tempfile

    with tempfile.TemporaryDirectory() as home:  # of mode 0700, root's
        entry = pwd.struct_passwd((USER.pw_name, "x", USER.pw_uid, USER.pw_gid, "", home, "/bin/sh"))
        monkeypatch.setattr(pwd, "getpwnam", lambda name: entry)
        out, _, code = result(launch("echo shell", terminal=TERMINAL, greet=True, cwd=home.encode()))
    assert code == 0, out
    assert out.endswith(b"shell\r\n")
    assert b"Could not chdir" in out


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory for the test, with a space in its name, that `USER` may enter."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="a home ", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        (Path(directory) / ".ssh").mkdir()
        yield Path(directory)


def prepared(home: Path, script: str = "echo session", **changes: object) -> tuple[bytes, bytes, int]:
    """The result of a session in `home`, whose rc file may run."""
    return result(launch(script, **({"cwd": os.fsencode(home), "user_rc": True} | changes)))  # type: ignore[arg-type]  # fields by name


def with_shell(shell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `USER` this shell."""
    entry = pwd.struct_passwd((USER.pw_name, "x", USER.pw_uid, USER.pw_gid, "", str(shell.parent), str(shell)))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry)


def test_a_shell_that_is_not_known_is_asked_for_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects accounts with a special shell: SFTP is requested from that shell, as with sshd."""
    monkeypatch.setattr(sftp_program, "for_shell", lambda: b"/a/server")
    menu = home / "menu"
    menu.write_text('#!/bin/sh\necho "menu: $*"; ls /proc/self/fd | wc -l')
    menu.chmod(0o755)
    with_shell(menu, monkeypatch)
    asked = (b"menu", b"-c", b"sftp")
    out, _, code = result(launch("", builtin="sftp", executable=os.fsencode(menu), argv=asked))
    assert (out, code) == (b"menu: -c /a/server\n4\n", 0)
    asked = (b"menu", b"-c", b"scp -t .")
    out, _, _ = result(launch("", executable=os.fsencode(menu), argv=asked, env={b"PATH": b"/nowhere"}))
    assert out.startswith(b"menu: -c scp -t .\n")


@pytest.fixture
def sshrc(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the machine's rc file, which does not exist yet."""
    path = home / "sshrc"
    monkeypatch.setattr(program, "SYSTEM_RC", os.fsencode(path))
    return path


def test_the_users_rc_file_comes_before_the_session(home: Path, sshrc: Path) -> None:
    """Protects ~/.ssh/rc (sshd(8), SSHRC): it runs before the session, and gets the X11 cookie instead of xauth."""
    (home / ".ssh/rc").write_text('echo "rc $PWD $SET $(cat)"; echo err >&2; exit 7')
    sshrc.write_text("echo never")
    out, err, code = prepared(home, "echo session; exit 3", env={b"PATH": b"/usr/bin:/bin", b"SET": b"x"})
    assert (out, err, code) == (b"rc %s x \nsession\n" % os.fsencode(home), b"err\n", 3)
    out, _, _ = prepared(home, rc_input=b"MIT-MAGIC-COOKIE-1 00ff\n", xauth=b"never")
    assert b" MIT-MAGIC-COOKIE-1 00ff\n" in out
    out, _, _ = prepared(home, "tty; echo session", terminal=TERMINAL)
    assert out.startswith(b"rc ")
    assert out.endswith(b"session\r\n")


def test_without_the_users_the_machines_rc_file_is_run(home: Path, sshrc: Path) -> None:
    """Protects /etc/ssh/sshrc, which is run if the user has no rc file, or may not have one."""
    sshrc.write_text('echo "machine $(cat)"')
    assert prepared(home, rc_input=b"proto 00\n")[0] == b"machine proto 00\nsession\n"
    (home / ".ssh/rc").write_text("echo rc")
    assert prepared(home)[0] == b"rc\nsession\n"
    assert prepared(home, user_rc=False)[0] == b"machine \nsession\n"
    sshrc.unlink()
    assert prepared(home, user_rc=False)[0] == b"session\n"


def test_an_rc_file_need_not_read(home: Path, sshrc: Path) -> None:
    """Protects a session whose rc file ends without reading its input, and the session's SIGPIPE."""
    (home / ".ssh/rc").write_text("exec <&-; kill -9 $$")
    for _ in range(5):
        assert prepared(home, "yes | head -n 1; echo $0", rc_input=b"x" * 300)[0] == b"y\nsh\n"


def test_an_rc_file_that_hangs_keeps_nobody_out(home: Path, sshrc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects users who want to repair a hanging rc file: after a while the session begins, and says why it waited."""
    monkeypatch.setattr(program, "RC_SECONDS", 0.2)
    (home / ".ssh/rc").write_text("exec sleep 1000")
    child = launch("echo session", cwd=os.fsencode(home), user_rc=True)
    read_until(child.descriptors[1], b"session\n")
    read_until(child.descriptors[2], b"~/.ssh/rc has not ended within")


def test_a_signal_that_comes_at_once_is_not_lost() -> None:
    """A signal just after the start is not lost: a client may send `signal` at once, and a server may stop any time."""
    for _ in range(50):
        child = launch("exec sleep 100")
        os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + 2
        status = (0, 0)
        while status == (0, 0):
            assert time.monotonic() < deadline, "the signal was lost"
            status = os.waitpid(child.pid, os.WNOHANG)
        assert os.WTERMSIG(status[1]) == signal.SIGTERM

"""The program and environment of a session: a table after sshd's session.c, and properties."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core import launch
from pyssh_gateway.core.launch import (
    ROOT_PATH,
    USER_PATH,
    Account,
    Endpoints,
    LaunchPlan,
    SessionRequest,
    Terminal,
    accepts_env,
    plan,
)
from pyssh_gateway.core.transfers.sftp_options import NO_OPTIONS, SftpOptions

AMOS = Account("amos", 1000, 1000, "/home/amos", "/usr/bin/zsh")
ROOT = Account("root", 0, 0, "/root", "/bin/bash")
BARE = Account("bare", 1001, 1001, "", "")
ODD = Account("odd", 1002, 1002, "/home/\udcff", "/opt/\udcfe/sh")
ENDS = Endpoints("2001:db8::1", 50000, "192.0.2.5", 2222)
TERMINAL = Terminal("xterm-256color", 80, 24, 0, 0, ())


def planned(
    account: Account = AMOS,
    *,
    kind: Literal["shell", "exec"] = "shell",
    command: bytes | None = None,
    terminal: Terminal | None = None,
    env: dict[bytes, bytes] | None = None,
    system: dict[bytes, bytes] | None = None,
) -> LaunchPlan:
    """The plan for a session of `account`."""
    return plan(SessionRequest(kind, command, terminal, env or {}), account, ENDS, system or {})


@pytest.mark.parametrize(
    ("account", "request_", "executable", "argv"),
    [
        (AMOS, {"terminal": TERMINAL}, b"/usr/bin/zsh", (b"-zsh",)),
        (AMOS, {}, b"/usr/bin/zsh", (b"-zsh",)),
        (AMOS, {"kind": "exec", "command": b"ls\xff"}, b"/usr/bin/zsh", (b"zsh", b"-c", b"ls\xff")),
        (AMOS, {"kind": "exec", "command": b""}, b"/usr/bin/zsh", (b"zsh", b"-c", b"")),
        (BARE, {}, b"/bin/sh", (b"-sh",)),
        (ODD, {}, b"/opt/\xfe/sh", (b"-sh",)),
    ],
)
def test_the_shell_and_its_arguments(
    account: Account, request_: dict[str, Any], executable: bytes, argv: tuple[bytes, ...]
) -> None:
    """A login shell's name begins with a dash; a command is one unchanged argument of the shell."""
    made = planned(account, **request_)
    assert (made.executable, made.argv) == (executable, argv)


@pytest.mark.parametrize(("account", "directory"), [(AMOS, b"/home/amos"), (BARE, b"/"), (ODD, b"/home/\xff")])
def test_the_directory(account: Account, directory: bytes) -> None:
    """A session starts in the home directory, or in / for an account without one."""
    assert planned(account).cwd == directory


def test_account_that_was_found_by_an_alias_is_asked_for_by_that() -> None:
    """With an account's alias, the spawner is asked for the configured name, and the session gets the account's own."""
    made = planned(Account("joe", 1003, 1003, "/home/joe", "/bin/sh", "joe@corp.example"))
    assert made.user == "joe@corp.example"
    assert (made.env[b"USER"], made.env[b"LOGNAME"]) == (b"joe", b"joe")


def test_the_whole_environment() -> None:
    """The environment has only what sshd sets (do_setup_env), and no variable of the server's."""
    assert planned(terminal=TERMINAL).env == {
        b"USER": b"amos",
        b"LOGNAME": b"amos",
        b"HOME": b"/home/amos",
        b"PATH": USER_PATH,
        b"MAIL": b"/var/mail/amos",
        b"SHELL": b"/usr/bin/zsh",
        b"TERM": b"xterm-256color",
        b"SSH_CLIENT": b"2001:db8::1 50000 2222",
        b"SSH_CONNECTION": b"2001:db8::1 50000 192.0.2.5 2222",
    }


def test_root_has_the_programs_of_root() -> None:
    """Root's PATH has the sbin directories, as with Debian's sshd."""
    assert planned(ROOT).env[b"PATH"] == ROOT_PATH


def test_without_a_terminal_there_is_no_terminal_type() -> None:
    """TERM is set only for a pty, and only if it is not empty."""
    assert b"TERM" not in planned().env
    assert b"TERM" not in planned(terminal=Terminal("", 80, 24, 0, 0, ())).env


def test_the_servers_own_variables_win_over_all() -> None:
    """Variables that the configuration sets for a login override those of client and machine."""
    request = SessionRequest("shell", None, None, {b"LANG": b"de_DE"}, {b"LANG": b"C", b"USER": b"other"})
    env = plan(request, AMOS, ENDS, {b"LANG": b"fr_FR"}).env
    assert (env[b"LANG"], env[b"USER"]) == (b"C", b"other")


def test_a_subsystem_runs_no_shell() -> None:
    """SFTP is served by our own code as the account, without a shell."""
    made = plan(SessionRequest("subsystem", b"sftp", None, {}), AMOS, ENDS, {})
    assert (made.builtin, made.greet) == ("sftp", False)
    assert planned().builtin == ""


def test_no_subsystem_runs_the_users_rc_file() -> None:
    """Protects SFTP clients from an rc file's output, as sshd does; the display's data is for the other sessions."""
    for kind, runs in (("shell", True), ("exec", True), ("subsystem", False)):
        request = SessionRequest(kind, b"x", None, {}, rc_input=b"proto cookie\n", user_rc=True)  # type: ignore[arg-type]  # of three literals
        made = plan(request, AMOS, ENDS, {})
        assert (made.user_rc, made.rc_input) == (runs, b"proto cookie\n")
    assert not planned().user_rc


def test_later_sources_win() -> None:
    """Later sources override earlier ones: the client's variables, the account's, the machine's, the connection's."""
    client = {b"LANG": b"de_DE", b"USER": b"root", b"LC_ALL": b"C", b"SSH_CLIENT": b"x"}
    machine = {b"LANG": b"C.UTF-8", b"PATH": b"/machine", b"SSH_CONNECTION": b"x"}
    env = planned(env=client, system=machine).env
    assert env[b"LANG"] == b"C.UTF-8"
    assert env[b"LC_ALL"] == b"C"
    assert env[b"USER"] == b"amos"
    assert env[b"PATH"] == b"/machine"
    assert env[b"SSH_CLIENT"].startswith(b"2001:db8::1 ")
    assert env[b"SSH_CONNECTION"].startswith(b"2001:db8::1 ")


@pytest.mark.parametrize(
    ("kind", "command", "terminal", "greet"),
    [("shell", None, TERMINAL, True), ("shell", None, None, False), ("exec", b"ls", TERMINAL, False)],
)
def test_only_a_shell_on_a_terminal_is_greeted(
    kind: Literal["shell", "exec"], command: bytes | None, terminal: Terminal | None, greet: bool
) -> None:
    """Only a shell on a pty gets the message of the day, which would break programs (VS Code's shell has no pty)."""
    made = planned(kind=kind, command=command, terminal=terminal)
    assert made.greet is greet
    assert made.terminal == terminal
    assert made.user == "amos"


@pytest.mark.parametrize(
    "name",
    [
        b"LANG",
        b"LC_ALL",
        b"LC_TERMINAL",
        b"COLORTERM",
        b"TERM_PROGRAM",
        b"NO_COLOR",
        b"GIT_AUTHOR_NAME",
        b"GIT_PROTOCOL",
    ],
)
def test_looks_language_and_git_identity_are_taken(name: bytes) -> None:
    """Variables that people have in SendEnv are accepted."""
    assert accepts_env(name, b"value")
    assert accepts_env(name, b"")


PROGRAMS_AND_CODE = [
    *(b"LD_PRELOAD", b"LD_LIBRARY_PATH", b"LD_AUDIT", b"PATH", b"HOME", b"SHELL", b"USER", b"IFS", b"ENV", b"BASH_ENV"),
    *(
        b"PYTHONPATH",
        b"PYTHONSTARTUP",
        b"PERL5LIB",
        b"NODE_OPTIONS",
        b"PROMPT_COMMAND",
        b"TERM",
        b"TERMINFO",
        b"LOCPATH",
    ),
    *(b"SSH_AUTH_SOCK", b"SSH_ORIGINAL_COMMAND", b"SSH_CONNECTION", b"XDG_RUNTIME_DIR", b"TMPDIR", b"EDITOR", b"PAGER"),
    *(b"GIT_CONFIG", b"GIT_CONFIG_GLOBAL", b"GIT_CONFIG_COUNT", b"GIT_CONFIG_KEY_0", b"GIT_EXEC_PATH", b"GIT_SSH"),
    *(b"GIT_SSH_COMMAND", b"GIT_PROXY_COMMAND", b"GIT_EXTERNAL_DIFF", b"GIT_ASKPASS"),
    *(b"GIT_EDITOR", b"GIT_SEQUENCE_EDITOR", b"GIT_PAGER", b"GIT_TEMPLATE_DIR", b"GIT_DIR"),
]
"""Variables that load code, name programs to run, or name files with settings that do so."""


@pytest.mark.parametrize("name", PROGRAMS_AND_CODE)
def test_nothing_that_loads_code_is_taken(name: bytes) -> None:
    """Variables that run programs are refused, or a client could escape a forced command."""
    assert not accepts_env(name, b"/tmp/x")


def test_the_server_s_own_variables_are_never_taken() -> None:
    """Protects the bill: a client's PYSSH_HOLD would hold the machine for all that its sessions leave behind."""
    for name in (b"PYSSH_HOLD", b"PYSSH_CONTROL", b"PYSSH_IDENTITY"):
        assert not accepts_env(name, b"1", ("*", "PYSSH_*", name.decode()))


@pytest.mark.parametrize(
    "name", [b"", b"_", b"lang", b"LC_ALL=x", b"LC-ALL", b"LC_\xff", b"LC_\n", b"LC_ A", b" LANG", b"XLANG"]
)
def test_names_that_are_none_are_refused(name: bytes) -> None:
    """A name with other characters than letters, digits and underscores is refused, as programs could misread it."""
    assert not accepts_env(name, b"x")


def test_a_value_with_a_nul_is_refused() -> None:
    """A value with a NUL is refused: execve(2) would cut it, or Python would refuse to start the program."""
    assert not accepts_env(b"LANG", b"C\0LD_PRELOAD=/tmp/x")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_only_what_is_listed_is_taken(name: bytes, value: bytes) -> None:
    """Any accepted name begins like a listed one and is valid in an environment."""
    if accepts_env(name, value):
        assert name.startswith((b"LANG", b"LC_", b"COLORTERM", b"TERM_PROGRAM", b"GIT_", b"NO_COLOR"))
        assert name.isascii()
        assert not {b"=", b"\0"} & {name[i : i + 1] for i in range(len(name))}
        assert b"\0" not in value


@given(
    st.sampled_from([AMOS, ROOT, BARE, ODD]),
    st.one_of(st.none(), st.binary(max_size=50)),
    st.dictionaries(st.binary(max_size=10), st.binary(max_size=10), max_size=5),
    st.dictionaries(st.binary(max_size=10), st.binary(max_size=10), max_size=5),
)
def test_identity_is_never_the_clients_to_say(
    account: Account, command: bytes | None, env: dict[bytes, bytes], system: dict[bytes, bytes]
) -> None:
    """USER and HOME are the account's, unless the machine's own file sets them; the command is one argument."""
    made = plan(SessionRequest("shell" if command is None else "exec", command, None, env), account, ENDS, system)
    for name, value in ((b"USER", account.name), (b"HOME", account.home)):
        assert made.env[name] == system.get(name, value.encode(errors="surrogateescape"))
    assert command is None or made.argv[1:] == (b"-c", command)


def test_what_the_server_sets() -> None:
    """Programs find session, person, agent, display and original command under these variable names."""
    assert launch.server_env(
        session="c1.1", identity="github:example SHA256:x", agent=b"", display=b"", original=None
    ) == {
        b"PYSSH_SESSION": b"c1.1",
        b"PYSSH_IDENTITY": b"github:example SHA256:x",
    }
    whole = launch.server_env(
        session="c", identity="i", agent=b"/a", display=b"localhost:10.0", original=b"", auth_file=b"/tmp/f"
    )
    more = {b"DISPLAY": b"localhost:10.0", b"SSH_ORIGINAL_COMMAND": b"", b"SSH_USER_AUTH": b"/tmp/f"}
    assert whole | {b"SSH_AUTH_SOCK": b"/a"} | more == whole


def test_how_somebody_has_authenticated() -> None:
    """Protects scripts for sshd's ExposeAuthInfo: method, key type and key are in its format."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x01k"
    assert launch.auth_info(blob) == b"publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAWs=\n"


def test_a_forced_sftp_server_is_ours() -> None:
    """`command="internal-sftp"` of a key line made for sshd is our own SFTP server, and no program for a shell."""
    assert launch.forced_to(b"internal-sftp", "subsystem") == launch.Forced("subsystem", NO_OPTIONS)
    asked = launch.forced_to(b"internal-sftp -R", "subsystem")
    assert asked == launch.Forced("subsystem", SftpOptions(read_only=True))
    assert launch.forced_to(b"make", "subsystem") == launch.forced_to(b"make", "shell") == launch.Forced("exec")


@pytest.mark.parametrize("kind", ["shell", "exec"])
def test_a_forced_sftp_server_is_nothing_else(kind: launch.Kind) -> None:
    """A key for SFTP only runs no commands, and its user reads a refusal."""
    forced = launch.forced_to(b"internal-sftp -u 002", kind)
    assert forced == launch.Forced("exec", refusal=b"This service allows sftp connections only.\n")


def test_a_forced_sftp_server_that_can_not_be_obeyed() -> None:
    """Protects people who restricted SFTP with an option that is unknown here: then nothing is served."""
    forced = launch.forced_to(b"internal-sftp -Z", "subsystem")
    assert (forced.kind, forced.sftp) == ("subsystem", None)
    assert forced.refusal == b"The forced command can't be obeyed: internal-sftp has no option '-Z' here\n"


def test_the_servers_command_is_found_last() -> None:
    """The server's directory is the last in PATH, also in the machine's own; a PATH from a key line is unchanged."""
    request = SessionRequest("shell", None, None, {})
    directory = b"/run/pyssh-gateway/bin"
    assert plan(request, AMOS, ENDS, {}, directory).env[b"PATH"] == USER_PATH + b":" + directory
    assert plan(request, AMOS, ENDS, {b"PATH": b"/opt/bin"}, directory).env[b"PATH"] == b"/opt/bin:" + directory
    own = SessionRequest("shell", None, None, {}, {b"PATH": b"/own"})
    assert plan(own, AMOS, ENDS, {}, directory).env[b"PATH"] == b"/own"

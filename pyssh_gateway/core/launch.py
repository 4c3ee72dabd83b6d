"""What to run for a session, with which arguments, environment and directory.

Follows sshd's `do_child` and `do_setup_env` (session.c), on which users' dotfiles and tools rely. Names, commands and
values are bytes, as on the wire and in the kernel.
"""

from base64 import b64encode
from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from pyssh_gateway.config.types import ACCEPTED_ENV
from pyssh_gateway.core.access.certificates import type_of
from pyssh_gateway.core.transfers.sftp_options import SftpOptions, SftpOptionsError, is_internal_sftp
from pyssh_gateway.core.transfers.sftp_options import parse as parse_sftp

USER_PATH = b"/usr/local/bin:/usr/bin:/bin:/usr/games"
"""PATH without an /etc/environment: what Debian's and Ubuntu's sshd set for accounts."""

ROOT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The same for root."""

_NEVER_ACCEPTED = (
    "LD_*",
    "PATH",
    "PYSSH_*",
    "PYTHON*",
    "GIT_ALLOW_PROTOCOL",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "GIT_ATTR_SOURCE",
    "GIT_COMMON_DIR",
    "GIT_CONFIG*",
    "GIT_CURL*",
    "GIT_DIR",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PAGER",
    "GIT_PROXY_*",
    "GIT_REDIRECT_*",
    "GIT_SEQUENCE_EDITOR",
    "GIT_SHALLOW_FILE",
    "GIT_SSH*",
    "GIT_SSL*",
    "GIT_TEMPLATE_DIR",
    "GIT_TR2_*",
    "GIT_TRACE*",
    "GIT_WORK_TREE",
)
"""Refused whatever the configured patterns: these load code, or make git run programs of the client's choice. PYSSH_*
is this server's: PYSSH_HOLD in a client's configuration would make all that any session leaves behind hold the
machine."""

NOLOGIN_EXIT_STATUS = 254
"""The exit status of sshd's sessions while /etc/nologin closes the machine (session.c, do_nologin)."""

PIPE_BYTES = 1024 * 1024
"""The size of a session's pipes: the largest that an unprivileged process may set (pipe(7)). Bulk data then needs a
sixteenth of the wake-ups of the default, 64 KiB."""

CONTROL_VARIABLE = b"PYSSH_CONTROL"
"""The path of the control socket for a session's commands, which may not be able to read the configuration."""

MAX_ENV_VARIABLES = 128
"""How many variables a client may set; sshd has the same bound (session.c, "Ignoring env request")."""

MAX_ENV_TOTAL = 64 * 1024
"""Bytes of names and values taken from one client; with a command of 128 KiB that fits the spawner's messages."""


Kind = Literal["shell", "exec", "subsystem"]
"""The requests that start a session's program (RFC 4254 section 6.5)."""


class Account(msgspec.Struct, frozen=True):
    """A passwd entry. `login` is the name by which it was found, if that differs: directory services have aliases."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    login: str = ""


Uint32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
"""A uint32 of the wire format (RFC 4251 section 5). The decoder checks the range."""

Byte = Annotated[int, msgspec.Meta(ge=0, lt=2**8)]


class Terminal(msgspec.Struct, frozen=True):
    """A `pty-req` (RFC 4254 section 6.2). `modes` are (opcode, value) pairs of section 8; pixels may be 0."""

    term: str
    columns: Uint32
    rows: Uint32
    width: Uint32
    height: Uint32
    modes: tuple[tuple[Byte, Uint32], ...]


class SessionRequest(msgspec.Struct, frozen=True):
    """What to run on one session channel. `command` is None for a shell, and the name for a subsystem.

    `env` is what the client set, `extra_env` what the server adds; the latter overrides everything else. `xauth` are
    commands for xauth(1) that make a forwarded display usable, `rc_input` the line with the same data for an rc file.
    `banner` is the text shown before a login shell. `user_rc`: the account's own rc file is run. `sftp`: SFTP is not
    only requested, but forced, with these options. `refusal` is printed instead of running anything.
    """

    kind: Kind
    command: bytes | None
    terminal: Terminal | None
    env: Mapping[bytes, bytes]
    extra_env: Mapping[bytes, bytes] = MappingProxyType({})
    xauth: bytes = b""
    banner: bytes = b""
    rc_input: bytes = b""
    user_rc: bool = False
    sftp: SftpOptions | None = None
    refusal: bytes = b""


class Endpoints(msgspec.Struct, frozen=True):
    """Both ends of the client's TCP connection, for the session's environment."""

    peer: str
    peer_port: int
    local: str
    local_port: int


class LaunchPlan(msgspec.Struct, frozen=True):
    """A process to start as `user`. SSH_TTY is added to `env` where the tty is made.

    `greet`: show the message of the day and `banner`, unless the account has a ~/.hushlogin. `builtin` names a server
    of our own that runs as the account instead of a program: "sftp". `peer` is for the machine's login records. Before
    the program, ~/.ssh/rc (if `user_rc`) or /etc/ssh/sshrc is run, with `rc_input` as its input; where there is
    neither, `xauth` is passed to xauth(1). With `sftp` the SFTP server is run whatever the account's shell is. With a
    `refusal` nothing is run: the text goes to standard output (for SFTP, to standard error), and the exit status is 1.
    """

    user: str
    executable: bytes
    argv: tuple[bytes, ...]
    env: dict[bytes, bytes]
    cwd: bytes
    terminal: Terminal | None
    greet: bool
    builtin: Literal["", "sftp"] = ""
    peer: str = ""
    xauth: bytes = b""
    banner: bytes = b""
    rc_input: bytes = b""
    user_rc: bool = False
    sftp: SftpOptions | None = None
    refusal: bytes = b""


SFTP_ONLY = b"This service allows sftp connections only.\n"
"""The answer of a forced internal-sftp to any other request, in sshd's words (session.c, do_child)."""


class Forced(msgspec.Struct, frozen=True):
    """What a forced command starts; the fields are those of a `SessionRequest`."""

    kind: Kind
    sftp: SftpOptions | None = None
    refusal: bytes = b""


def forced_to(command: bytes, kind: Kind) -> Forced:
    """What a forced command starts where a client asks for `kind` (session.c, do_exec)."""
    if not is_internal_sftp(command):
        return Forced("exec")
    if kind != "subsystem":
        return Forced("exec", refusal=SFTP_ONLY)
    try:
        return Forced("subsystem", sftp=parse_sftp(command))
    except SftpOptionsError as error:
        return Forced("subsystem", refusal=f"The forced command can't be obeyed: {error}\n".encode())


def auth_info(blob: bytes) -> bytes:
    """The text of sshd's ExposeAuthInfo for a login with the key or certificate `blob` (sshd_config(5)).

    It has the method, and the key in the format of authorized_keys (auth2.c, auth2_update_session_info).
    """
    return f"publickey {type_of(blob)} {b64encode(blob).decode()}\n".encode()


def server_env(
    *, session: str, identity: str, agent: bytes, display: bytes, original: bytes | None, auth_file: bytes = b""
) -> dict[bytes, bytes]:
    """The variables that the server itself sets in a session. A variable whose value is empty or None is not set.

    `session` is the session's id in the log, `identity` describes the person, `agent` is the socket of the forwarded
    agent, `original` the command that the client requested where another one is forced. `auth_file` is the file with
    the text of `auth_info`.
    """
    env = {b"PYSSH_SESSION": session.encode(), b"PYSSH_IDENTITY": identity.encode()}
    if agent:
        env[b"SSH_AUTH_SOCK"] = agent
    if display:
        env[b"DISPLAY"] = display
    if auth_file:
        env[b"SSH_USER_AUTH"] = auth_file
    if original is not None:
        env[b"SSH_ORIGINAL_COMMAND"] = original
    return env


def plan(
    request: SessionRequest,
    account: Account,
    endpoints: Endpoints,
    system_env: Mapping[bytes, bytes],
    command_directory: bytes = b"",
) -> LaunchPlan:
    """The process that serves `request`. `system_env` is what the machine sets for every login (/etc/environment).

    `command_directory` is the directory of the server's own command, if it is not in the default PATH.
    """
    shell = account.shell.encode(errors="surrogateescape") or b"/bin/sh"
    name = shell.rpartition(b"/")[2]
    argv = (b"-" + name,) if request.command is None else (name, b"-c", request.command)
    greet = request.command is None and request.terminal is not None
    return LaunchPlan(
        user=account.login or account.name,
        executable=shell,
        argv=argv,
        env=_environment(request, account, shell, endpoints, system_env, command_directory=command_directory),
        cwd=account.home.encode(errors="surrogateescape") or b"/",
        terminal=request.terminal,
        greet=greet,
        builtin="sftp" if request.kind == "subsystem" else "",
        peer=endpoints.peer,
        xauth=request.xauth,
        banner=request.banner if greet else b"",
        rc_input=request.rc_input,
        user_rc=request.user_rc and request.kind != "subsystem",
        sftp=request.sftp,
        refusal=request.refusal,
    )


def _environment(
    request: SessionRequest,
    account: Account,
    shell: bytes,
    endpoints: Endpoints,
    system_env: Mapping[bytes, bytes],
    *,
    command_directory: bytes,
) -> dict[bytes, bytes]:
    """The process's whole environment, in sshd's order: a later source wins over an earlier one."""
    user = account.name.encode()
    env = dict(request.env)
    env |= {
        b"USER": user,
        b"LOGNAME": user,
        b"HOME": account.home.encode(errors="surrogateescape"),
        b"PATH": ROOT_PATH if account.uid == 0 else USER_PATH,
        b"MAIL": b"/var/mail/" + user,
        b"SHELL": shell,
    }
    if request.terminal is not None and request.terminal.term:
        env[b"TERM"] = request.terminal.term.encode()
    env |= system_env
    if command_directory:  # last: commands of the machine with the same name come first
        env[b"PATH"] += b":" + command_directory
    client = f"{endpoints.peer} {endpoints.peer_port}"
    env[b"SSH_CLIENT"] = f"{client} {endpoints.local_port}".encode()
    env[b"SSH_CONNECTION"] = f"{client} {endpoints.local} {endpoints.local_port}".encode()
    return env | dict(request.extra_env)


def accepts_env(name: bytes, value: bytes, patterns: tuple[str, ...] = ACCEPTED_ENV) -> bool:
    """Whether a client may set the variable `name` to `value` (RFC 4254 section 6.4)."""
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        return False
    if b"\0" in value or not text.replace("_", "a").isalnum():
        return False
    if any(fnmatchcase(text, pattern) for pattern in _NEVER_ACCEPTED):
        return False
    return any(fnmatchcase(text, pattern) for pattern in patterns)

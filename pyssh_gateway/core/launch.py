"""What to run for a session, with which arguments, environment and directory.

Follows sshd's `do_child` and `do_setup_env` (session.c), whose users' dotfiles and tools rely on it. Names, commands
and values are bytes, as the wire and the kernel have them.
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
"""Not by any pattern of the configuration: these load code, or lead git to programs of the client's choice."""

NOLOGIN_EXIT_STATUS = 254
"""What sshd's session ends with when the machine is closed (session.c, do_nologin)."""

PIPE_BYTES = 1024 * 1024
"""Room in the pipes of a session: the largest that an unprivileged process gets (pipe(7)). Bulk data then takes a
sixteenth of the wake-ups that the default 64 KiB costs."""

CONTROL_VARIABLE = b"PYSSH_CONTROL"
"""Where a session's commands ask the server; they may not be able to read the configuration."""

MAX_ENV_VARIABLES = 128
"""How many variables a client may set; sshd has the same bound (session.c, "Ignoring env request")."""

MAX_ENV_TOTAL = 64 * 1024
"""Bytes of names and values taken from one client; with a command of 128 KiB that fits the spawner's messages."""


Kind = Literal["shell", "exec", "subsystem"]
"""What a client may ask a session for (RFC 4254 section 6.5)."""


class Account(msgspec.Struct, frozen=True):
    """A passwd entry. `login` is the name that it was found by, if that is another one: directories know aliases."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    login: str = ""


Uint32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
"""A number as the wire has it (RFC 4251 section 5). What is decoded is checked against it."""

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
    """What is to run on one session channel. `command` is None for a shell, and for a subsystem its name.

    `env` is what the client set, `extra_env` what the server adds; the latter wins over all else. `xauth` are commands
    for xauth(1) that make a forwarded display usable, `rc_input` the line that says the same to an rc file. `banner` is
    what a login shell's user is told first. `user_rc`: the account's own rc file counts. `sftp`: SFTP is not only asked
    for, but forced, with these options. `refusal` is said instead of running anything.
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
    """Both ends of the client's TCP connection, as the session is told of them."""

    peer: str
    peer_port: int
    local: str
    local_port: int


class LaunchPlan(msgspec.Struct, frozen=True):
    """A process to start as `user`. SSH_TTY is added to `env` where the tty is made.

    `greet`: show the message of the day and `banner`, unless the account has a ~/.hushlogin. `builtin` names a server
    of our own that runs as the account in the place of a program: "sftp". `peer` is for the machine's login records.
    Before, ~/.ssh/rc is run if `user_rc`, or /etc/ssh/sshrc, with `rc_input`; where there is neither, `xauth` is said
    to xauth(1). With `sftp` the SFTP server is served whatever the account's shell is. With a `refusal` nothing is run:
    it is said on standard output, or where that is SFTP's, on standard error, and the exit status is 1.
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
"""What anybody is told by a forced internal-sftp who asks for anything else: sshd's words (session.c, do_child)."""


class Forced(msgspec.Struct, frozen=True):
    """What a forced command starts; the fields are a `SessionRequest`'s."""

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
    """What sshd's ExposeAuthInfo tells scripts of a login by the key or certificate `blob` (sshd_config(5)).

    The method and the key as authorized_keys has it (auth2.c, auth2_update_session_info).
    """
    return f"publickey {type_of(blob)} {b64encode(blob).decode()}\n".encode()


def server_env(
    *, session: str, identity: str, agent: bytes, display: bytes, original: bytes | None, auth_file: bytes = b""
) -> dict[bytes, bytes]:
    """What the server itself sets in a session; empty or None: there is none.

    `session` is its id in the log, `identity` who it is, `agent` the socket that leads to the client's agent,
    `original` what the client asked for where something else is forced. `auth_file` has what `auth_info` says.
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
) -> LaunchPlan:
    """The process that serves `request`. `system_env` is what the machine sets for every login (/etc/environment)."""
    shell = account.shell.encode(errors="surrogateescape") or b"/bin/sh"
    name = shell.rpartition(b"/")[2]
    argv = (b"-" + name,) if request.command is None else (name, b"-c", request.command)
    greet = request.command is None and request.terminal is not None
    return LaunchPlan(
        user=account.login or account.name,
        executable=shell,
        argv=argv,
        env=_environment(request, account, shell, endpoints, system_env),
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

"""The options of `internal-sftp` as a forced command: those of sftp-server(8), read as OpenSSH's sftp_server_main does.

sshd starts the server even if it understands only some of the options. Here the whole command is refused then, because
it was written to restrict a key. Pure.
"""

import re

import msgspec

INTERNAL_SFTP = b"internal-sftp"
"""The forced command that means the built-in SFTP server instead of a program (sshd_config(5), ForceCommand)."""

READS = frozenset(
    {
        *("open", "close", "read", "lstat", "fstat", "opendir", "readdir", "realpath", "stat", "readlink"),
        *("statvfs", "fstatvfs", "limits", "expand-path", "home-directory", "users-groups-by-id"),
    }
)
"""Read-only requests, by the names of `sftp-server -Q requests`. "open" may write: see `may_open`."""

WRITES = frozenset(
    {
        *("write", "setstat", "fsetstat", "remove", "mkdir", "rmdir", "rename", "symlink"),
        *("posix-rename", "hardlink", "fsync", "lsetstat", "copy-data"),
    }
)
"""Requests that write: those with `does_write` set in sftp-server.c."""

_LOG_LEVELS = frozenset({"quiet", "fatal", "error", "info", "verbose", "debug", "debug1", "debug2", "debug3"})
_FACILITIES = frozenset({"daemon", "user", "auth", "authpriv", *(f"local{number}" for number in range(8))})

_WITH_VALUE = "dflPpu"
_PERCENT = re.compile(rb"%(.?)", re.DOTALL)


class SftpOptionsError(Exception):
    """The command is not understood in all parts; the text says why."""


class SftpOptions(msgspec.Struct, frozen=True):
    """What a client may do. `directory` is its first directory (see `expanded`), `umask` the server's; None: unchanged.

    `allowed` None: every request that is not in `denied`.
    """

    read_only: bool = False
    directory: bytes | None = None
    umask: int | None = None
    allowed: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()


NO_OPTIONS = SftpOptions()


def is_internal_sftp(command: bytes) -> bool:
    """Whether a forced command means the SFTP server (IS_INTERNAL_SFTP in OpenSSH's session.c)."""
    return command == INTERNAL_SFTP or command.startswith((INTERNAL_SFTP + b" ", INTERNAL_SFTP + b"\t"))


def problem_of(command: bytes) -> str:
    """Why the forced command is refused; empty if it is not, or if it is another program."""
    if is_internal_sftp(command):
        try:
            parse(command)
        except SftpOptionsError as error:
            return str(error)
    return ""


def parse(command: bytes) -> SftpOptions:
    """The options of a forced command that `is_internal_sftp`. Raises `SftpOptionsError`."""
    options = NO_OPTIONS
    words = command.split()[1:]
    while words:
        word = words.pop(0)
        if word == b"--" and not words:
            break
        if not word.startswith(b"-") or word in {b"-", b"--"}:
            raise SftpOptionsError(f"internal-sftp takes no argument {_shown(word)}")
        letters = word[1:].decode("utf-8", "replace")
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter not in _WITH_VALUE:
                options = _flag(options, letter)
                continue
            value = letters.encode() if letters else words.pop(0) if words else b""
            if not value:
                raise SftpOptionsError(f"internal-sftp -{letter} needs a value")
            options = _value(options, letter, value)
            break
    return options


def permits(options: SftpOptions, request: str) -> bool:
    """Whether the request of that name may be made (sftp-server.c, request_permitted)."""
    if options.read_only and request in WRITES:
        return False
    return request not in options.denied and (options.allowed is None or request in options.allowed)


def expanded(directory: bytes, *, user: str, uid: int, home: bytes) -> bytes:
    """`directory` with %d and %h (the home directory), %u (the user), %U (their number) and %% replaced."""
    values = {b"d": home, b"h": home, b"u": user.encode(), b"U": str(uid).encode(), b"%": b"%"}
    return _PERCENT.sub(lambda match: values[match[1]], directory)


def _flag(options: SftpOptions, letter: str) -> SftpOptions:
    if letter == "R":
        return msgspec.structs.replace(options, read_only=True)
    if letter == "e":  # log to standard error: ignored, since we log events instead
        return options
    raise SftpOptionsError(f"internal-sftp has no option {_shown(f'-{letter}'.encode())} here")


def _value(options: SftpOptions, letter: str, value: bytes) -> SftpOptions:
    text = value.decode("utf-8", "replace")
    match letter:
        case "d":
            for percent in _PERCENT.finditer(value):
                if percent[1] not in {b"d", b"h", b"u", b"U", b"%"}:
                    raise SftpOptionsError(f"internal-sftp -d: {_shown(percent[0])} is none of %d %h %u %U %%")
            return msgspec.structs.replace(options, directory=value)
        case "u":
            if not re.fullmatch("0{0,8}[0-7]{1,3}", text):
                raise SftpOptionsError(f"internal-sftp -u: {_shown(value)} is no mask of octal digits up to 777")
            return msgspec.structs.replace(options, umask=int(text, 8))
        case "P":
            return msgspec.structs.replace(options, denied=options.denied | _requests("-P", text))
        case "p":
            if options.allowed is not None:
                raise SftpOptionsError("internal-sftp has two -p")
            return msgspec.structs.replace(options, allowed=_requests("-p", text))
        case "l" if text.lower() in _LOG_LEVELS:
            return options
        case "f" if text.lower() in _FACILITIES:
            return options
        case _:
            raise SftpOptionsError(f"internal-sftp -{letter}: {_shown(value)} is not known")


def _requests(option: str, text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    unknown = sorted(names - READS - WRITES)
    if unknown:
        raise SftpOptionsError(f"internal-sftp {option}: there is no request {_shown(unknown[0].encode())}")
    return names


def _shown(text: bytes) -> str:
    return ascii(text[:64].decode("utf-8", "replace"))

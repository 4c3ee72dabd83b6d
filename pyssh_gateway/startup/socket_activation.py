"""Listening sockets that the parent process passes to us: sd_listen_fds(3), the protocol of systemd and others.

`LISTEN_PID` is the process that the sockets are for, `LISTEN_FDS` their number (descriptors 3 and up), and
`LISTEN_FDNAMES` their names, separated by colons. It replaces the bind, and like that comes before everything heavy, so
nothing is imported but the standard library's `socket`. This module knows nothing of the configuration, and uses the
environment only through the mapping that it is given.
"""

import os
import socket
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of sd-daemon.h."""

MAX_DESCRIPTORS = 64
"""More sockets than anybody needs to pass to us. All are closed or used, so this limits what a wrong number closes."""

MAX_SHOWN = 60
"""Enough of a value to recognise it in an error."""

PREFERRED_NAME = "ssh"
"""The name (FileDescriptorName= in a .socket unit) of the sockets to use if there are others, too."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
"""All variables of the protocol. They are removed, because a child that used them would take our descriptors."""


class ActivationError(Exception):
    """Sockets were passed to us, or announced, and can't be used. The message is one line for a person."""


class InheritedSocket(socket.socket):
    """A listening socket that belongs to the process that started us (systemd), and outlives us.

    To stop accepting connections, we just close our descriptor. A shutdown would stop the socket for its owner, too:
    systemd would then give up the unit and never start us again. So `shutdown` does nothing, and the connections in
    the socket's queue, which a server resets when it shuts down its own socket, are served by the next server instead.
    """

    def shutdown(self, how: int, /) -> None:
        """Do nothing; see the class."""


def take(environ: MutableMapping[str, str], pid: int) -> tuple[InheritedSocket, ...]:
    """The sockets that were passed to this process, whose pid is `pid`; empty: there are none.

    Of several, those named "ssh" are taken, or all if none has that name; the others are closed. The variables are
    removed from `environ`, even if they were meant for a process before us. Raises ActivationError.
    """
    given = {name: environ.pop(name, "") for name in VARIABLES}
    if given["LISTEN_PID"] != str(pid) or not given["LISTEN_FDS"]:
        return ()
    count = _count(given["LISTEN_FDS"])
    names = given["LISTEN_FDNAMES"].split(":")[:count]
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count)
    named = [FIRST_DESCRIPTOR + index for index, name in enumerate(names) if name == PREFERRED_NAME]
    chosen = named or list(descriptors)
    for descriptor in descriptors:
        if descriptor not in chosen:
            _close(descriptor)
    return tuple(_listening(descriptor) for descriptor in chosen)


def _count(text: str) -> int:
    """The number of sockets according to `LISTEN_FDS`."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_DESCRIPTORS)):
        number = int(text)
        if 0 < number <= MAX_DESCRIPTORS:
            return number
    raise ActivationError(f"LISTEN_FDS has to be a number from 1 to {MAX_DESCRIPTORS}, not {text[:MAX_SHOWN]!r}")


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:  # not open: the parent's number was wrong, which makes no difference here
        return


def _listening(descriptor: int) -> InheritedSocket:
    """The listening TCP socket with the number `descriptor`. Raises ActivationError if it is anything else."""
    what = f"descriptor {descriptor}, which the server was started with (LISTEN_FDS),"
    try:
        os.set_inheritable(descriptor, False)
        sock = InheritedSocket(fileno=descriptor)
    except OSError as error:  # EBADF, or ENOTSOCK for a FIFO or a file
        raise ActivationError(f"{what} is no socket: {error.strerror}; see the Listen... lines of the unit") from None
    if sock.family not in {socket.AF_INET, socket.AF_INET6} or sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ActivationError(f"{what} is no TCP socket; the unit needs ListenStream= with a port")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ActivationError(
            f"{what} does not listen; the unit needs Accept=no (systemd-socket-activate: no --accept)"
        )
    return sock

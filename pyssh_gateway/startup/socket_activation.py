"""Listening sockets that whoever started us has made: the protocol of sd_listen_fds(3), systemd's and its imitators'.

`LISTEN_PID` is the process that the sockets are for, `LISTEN_FDS` how many there are (descriptors 3 and up), and
`LISTEN_FDNAMES` their names, with colons between them. This comes before everything heavy, as the bind does that it
stands for, so nothing is imported but the standard library's `socket`. It knows nothing of the configuration, and
touches the environment only through the mapping that it is given.
"""

import os
import socket
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of sd-daemon.h."""

MAX_DESCRIPTORS = 64
"""More sockets than anybody has a reason to pass to us; each is closed or used, and a wrong number closes no more."""

MAX_SHOWN = 60
"""Enough of a value to recognise it in an error."""

PREFERRED_NAME = "ssh"
"""The name (FileDescriptorName= in a .socket unit) of the sockets that are taken when there are others, too."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
"""All that the protocol sets. Nobody else is to see them: a program that believed them would take our descriptors."""


class ActivationError(Exception):
    """We were given sockets, or told so, and can't use them. The message is one line for a person."""


class InheritedSocket(socket.socket):
    """A listening socket that belongs to whoever started us, and outlives us.

    Closing the door of such a house means not to answer any more. To shut the socket down would shut it for its owner,
    too: systemd then gives the unit up, and nobody wakes us again. So `shutdown` leaves it as it is, and those in its
    queue, whom a server resets when it takes its own socket away, are served by the next server instead.
    """

    def shutdown(self, how: int, /) -> None:
        """Nothing: see above."""


def take(environ: MutableMapping[str, str], pid: int) -> tuple[InheritedSocket, ...]:
    """The sockets that the process `pid`, which is us, is to accept connections from; none: it was given none.

    Of several, those named "ssh", or all if none is; the others are closed here. The variables are removed from
    `environ` whether they were meant for us or for a process before us. Raises ActivationError.
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
    """How many sockets `LISTEN_FDS` says that there are."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_DESCRIPTORS)):
        number = int(text)
        if 0 < number <= MAX_DESCRIPTORS:
            return number
    raise ActivationError(f"LISTEN_FDS has to be a number from 1 to {MAX_DESCRIPTORS}, not {text[:MAX_SHOWN]!r}")


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:  # not even there: whoever said so was wrong, and it makes no difference
        return


def _listening(descriptor: int) -> InheritedSocket:
    """The listening TCP socket that `descriptor` is."""
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

"""The server side of `scp -O`, for machines without an scp program: runs in a child that is the user already.

A copy uses blocking calls, and half a megabyte of buffers however large the files are. The modules beside this one have
the parts: the command line, the peer, the receiver (`sink`) and the sender (`source`).

Everything is imported at the top, never in a function: when `serve` runs, the process already has the user's rights,
and the user may not be able to read the server's files.
"""

import glob
import os
import re
import signal
from itertools import islice

from pyssh_gateway.as_user.scp.peer import GoneError, Peer, ProtocolError, reason, write_all
from pyssh_gateway.as_user.scp.sink import Sink
from pyssh_gateway.as_user.scp.source import Source
from pyssh_gateway.as_user.sftp.names import home_directory
from pyssh_gateway.core.transfers.scp_command import MAGIC, Options, options, parse

__all__ = ["parse", "serve"]

MAX_MATCHES = 50_000
"""How many names the patterns of one command may match: about as many as a shell could have passed to a real scp
(ARG_MAX, 2 MiB)."""

DONE = 0
FAILED = 1
"""scp's exit status after any error."""

_USAGE = b"pyssh-gateway: usage: scp [-v] [-r] [-p] [-d] -t|-f PATH...\n"
_BRACKETED = re.compile(rb"\[([*?[])\]")


def serve(argv: list[bytes], stdin: int, stdout: int, stderr: int) -> int:
    """Serve the copy that `argv` (see `parse`) asks for, until the client is done; returns the exit status.

    The rights, the working directory (the home directory) and the umask are those of the process. While files are
    received with their modes (-p), the umask is not applied.
    """
    # A client that is gone and a file that would exceed RLIMIT_FSIZE become errors to handle, not deadly signals.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asked = options(argv)
    if asked is None:
        write_all(stderr, _USAGE)
        return FAILED
    for descriptor in (stdin, stdout, stderr):
        os.set_blocking(descriptor, True)
    mask = os.umask(0)
    if asked.source or not asked.preserve:
        os.umask(mask)
    peer = Peer(stdin, stdout, stderr, verbose=asked.verbose)
    try:
        _copy(peer, asked, mask)
    except (GoneError, ConnectionError):
        return FAILED
    finally:
        os.umask(mask)
    return FAILED if peer.errors else DONE


def _copy(peer: Peer, asked: Options, mask: int) -> None:
    try:
        paths = _expanded(asked.words)
        if asked.source:
            Source(peer, asked).run(paths)
        elif len(paths) == 1:
            Sink(peer, asked, mask).run(paths[0])
        else:
            peer.complain(b"ambiguous target")
    except ProtocolError as error:
        peer.complain(os.fsencode(str(error)))
    except ConnectionError:
        raise
    except OSError as error:  # of the descriptors, not of a file
        peer.complain(reason(error))


def _expanded(words: tuple[bytes, ...]) -> list[bytes]:
    """The paths that `words` mean, expanded as by a shell: a pattern without a match stays as it is."""
    paths: list[bytes] = []
    for word in words:
        pattern = _with_home(word)
        matches = []
        if any(char in MAGIC for char in pattern):
            matches = sorted(islice(glob.iglob(pattern), MAX_MATCHES + 1))  # noqa: PTH207 - bytes
        paths += matches or [_BRACKETED.sub(rb"\1", pattern)]
        if len(paths) > MAX_MATCHES:
            raise ProtocolError("Argument list too long")
    return paths


def _with_home(word: bytes) -> bytes:
    """`word` with a leading `~` or `~user` replaced, if there is such a user."""
    if not word.startswith(b"~"):
        return word
    user, slash, rest = word[1:].partition(b"/")
    try:
        return glob.escape(home_directory(user)) + slash + rest
    except OSError:
        return word

"""The SFTP server: runs in a child of the spawner that is the user already, until the client disconnects.

Requests are done one after the other, by blocking calls, so answers come in the order of the requests and no state is
shared. A session holds about a megabyte of buffers, whatever the client does.

Everything is imported at the top, never in a function: when `serve` runs, the process already has the user's rights,
and the user may not be able to read the server's files.
"""

import os
import pwd
import resource
import signal
import time
from contextlib import suppress

from pyssh_gateway.as_user.sftp import wire
from pyssh_gateway.as_user.sftp.extensions import Extensions
from pyssh_gateway.as_user.sftp.files import Handles
from pyssh_gateway.as_user.sftp.names import Accounts
from pyssh_gateway.as_user.sftp.requests import Handler, Requests
from pyssh_gateway.as_user.sftp.stream import PacketReader, ReplyWriter
from pyssh_gateway.core.transfers.sftp_options import NO_OPTIONS, SftpOptions, expanded
from pyssh_gateway.ipc.file_events import EventSender

MAX_HANDLES = 1000
"""Open files and directories per session, if the limit on descriptors allows it: far more than any client opens."""

_OWN_DESCRIPTORS = 16
"""Descriptors that handles must leave free: the four of `serve`, and those that name look-ups open."""

GONE = 0
"""Exit status after the client has disconnected, in whatever way: sftp-server's at the end of its input."""

BROKEN = 1
"""Exit status if the client did not speak SFTP, or the descriptors failed."""


def serve(
    stdin: int,
    stdout: int,
    events: int,
    options: SftpOptions = NO_OPTIONS,
    account: pwd.struct_passwd | None = None,
) -> int:
    """Speak SFTP version 3 on `stdin` and `stdout` until the client disconnects; returns the exit status.

    File operations are reported on the pipe `events` (see `ipc.file_events`). The rights, the working directory (the
    home directory) and the umask are those of the process, unless the `options` of a forced command say otherwise.
    `account` is the account of the process; None: it is looked up when needed, which is not possible in a chroot.
    """
    # A client that is gone and a file that would exceed RLIMIT_FSIZE become errors to handle, not deadly signals, which
    # would leave open files unreported.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for descriptor in (stdin, stdout):
        os.set_blocking(descriptor, True)
    if options.umask is not None:
        os.umask(options.umask)
    accounts = Accounts(account)
    if options.directory is not None:
        _enter(options.directory, accounts)
    sender = EventSender(events)
    requests = Requests(Handles(_handle_limit()), sender, time.time, options, accounts)
    try:
        _converse(PacketReader(stdin), ReplyWriter(stdout), requests, Extensions(requests, stdout))
    except wire.MalformedError as error:
        _complain(f"this is not SFTP version 3: {error}")
        return BROKEN
    except (wire.ClientGoneError, ConnectionError):
        return GONE
    except OSError as error:
        _complain(error.strerror or str(error))
        return BROKEN
    finally:
        requests.close_all()
        sender.finish()
    return GONE


def _enter(directory: bytes, accounts: Accounts) -> None:
    """Enter the directory where a client is to start. If that fails, it starts in the home directory, as with sshd."""
    try:
        entry = accounts.own()
        home = os.fsencode(entry.pw_dir)
        os.chdir(expanded(accounts.expand_tilde(directory), user=entry.pw_name, uid=entry.pw_uid, home=home))
    except (OSError, KeyError, ValueError) as error:
        _complain(f"can't start in {os.fsdecode(directory)}: {getattr(error, 'strerror', None) or error}")


def _converse(reader: PacketReader, writer: ReplyWriter, requests: Requests, extensions: Extensions) -> None:
    handlers = requests.handlers | {wire.FXP_EXTENDED: extensions.answer}
    greeted = False
    try:
        while (packet := reader.next()) is not None:
            fields = wire.Fields(packet)
            kind = fields.byte()
            number = fields.u32()
            if kind == wire.FXP_INIT:
                # The client's version does not matter: 3 is answered, and it stands where other packets have the id.
                writer.put(wire.FXP_VERSION, wire.VERSION, extensions.announced())
                greeted = True
            elif not greeted:
                raise wire.MalformedError("the first packet is not the client's version")
            else:
                writer.put(*_answer(handlers.get(kind, _unsupported), number, fields))
            if not reader.ready():
                writer.flush()
    finally:
        writer.flush()  # the requests before a malformed packet are answered


def _answer(handler: Handler, number: int, fields: wire.Fields) -> tuple[int, int, bytes | memoryview]:
    """The answer to request `number`: its type, the request's id, and what follows."""
    try:
        kind, body = handler(fields)
    except wire.Refusal as refusal:
        kind, body = wire.status(refusal.code, refusal.text)
    except OSError as error:
        kind, body = wire.failure(error)
    return kind, number, body


def _unsupported(_fields: wire.Fields) -> wire.Reply:
    return wire.status(wire.FX_OP_UNSUPPORTED, "Operation unsupported")


def _handle_limit() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MAX_HANDLES, descriptors - _OWN_DESCRIPTORS))


def _complain(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"pyssh-gateway: sftp: {text}\n".encode(errors="surrogateescape"))

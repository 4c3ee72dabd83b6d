"""The SFTP server: runs in a child that the spawner forked and that is the user by now, until the client has gone.

One request is done after the other, by blocking calls, so answers come in the order of the requests and nothing is
shared with anybody. A session holds about a megabyte of buffers, whatever the client does.

Everything is imported at the top, and no function below imports: by the time that `serve` runs, the process is the
user, who may not be able to read the server's files.
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
"""Open files and directories per session, if the limit on descriptors allows it: far over what any client has open."""

_OWN_DESCRIPTORS = 16
"""Descriptors that handles must leave free: the four that `serve` is given, and what looking up names opens."""

GONE = 0
"""Exit status after the client has gone, in whatever way: sftp-server's at the end of its input."""

BROKEN = 1
"""Exit status when the client spoke no SFTP, or its descriptors failed."""


def serve(
    stdin: int,
    stdout: int,
    events: int,
    options: SftpOptions = NO_OPTIONS,
    account: pwd.struct_passwd | None = None,
) -> int:
    """Speak SFTP version 3 on `stdin` and `stdout` until the client has gone; the exit status.

    What is done to files is reported on the pipe `events` (see `sftp_events`). The rights, the working directory (the
    home directory) and the umask are the process's own, unless `options`, a forced command's, say otherwise. `account`
    is whose rights these are; None: it is looked up when it is needed, which can't be done in a chroot.
    """
    # A client that is gone, or a file that would exceed RLIMIT_FSIZE, are errors to be handled, not a sudden death
    # that would leave open files unreported.
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
    """Go where a client is to start. Where it can't, it starts at home, as sshd has it."""
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
                # Whatever version the client has: 3 is the one that is spoken here, and it stands where ids do.
                writer.put(wire.FXP_VERSION, wire.VERSION, extensions.announced())
                greeted = True
            elif not greeted:
                raise wire.MalformedError("the first packet is not the client's version")
            else:
                writer.put(*_answer(handlers.get(kind, _unsupported), number, fields))
            if not reader.ready():
                writer.flush()
    finally:
        writer.flush()  # what came before a malformed packet has its answers


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

"""The requests of SFTP version 3 (draft-ietf-secsh-filexfer-02 section 6), each done at once on the file system.

Where the draft leaves room, or programs expect something else, OpenSSH's sftp-server.c is the model: every client was
tried with it. The extensions are in `extensions`.
"""

# The names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH102, PTH106, PTH108, PTH109, PTH115, PTH116, PTH118, PTH211

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyssh_gateway.as_user.sftp import files, permissions, wire
from pyssh_gateway.as_user.sftp import names as naming
from pyssh_gateway.core.transfers.sftp_options import NO_OPTIONS, SftpOptions
from pyssh_gateway.ipc import file_events as events

LISTING_ENTRIES = 100
"""Entries in one answer to READDIR, as in sftp-server.c."""

LISTING_BYTES = 64 * 1024
"""An answer to READDIR ends at this size, as names may be long. One more entry always fits into the packet."""

DONE = wire.status(wire.FX_OK, "Success")
END_OF_FILE = wire.status(wire.FX_EOF, "End of file")

Handler = permissions.Handler

_DEFAULT_FILE_MODE = 0o666
_DEFAULT_DIRECTORY_MODE = 0o777
_DATA_AT = 4
"""Where the data begins in the answer to READ: after its length."""


class Requests:
    """The requests of one client, and its open files. Each handler takes a request's fields after the id.

    `options` are those of a forced command, whose working directory and umask have been applied already.
    """

    def __init__(
        self,
        handles: files.Handles,
        sender: events.EventSender,
        now: Callable[[], float],
        options: SftpOptions = NO_OPTIONS,
        accounts: naming.Accounts | None = None,
    ) -> None:
        self.handles = handles
        self.options = options
        self._sender = sender
        self._now = now
        self.accounts = naming.Accounts() if accounts is None else accounts
        self._home = _working_directory()
        self._data = bytearray(_DATA_AT + wire.MAX_DATA)
        self._data_view = memoryview(self._data)
        handlers: dict[int, Handler] = {
            wire.FXP_OPEN: self._open,
            wire.FXP_CLOSE: self._close,
            wire.FXP_READ: self._read,
            wire.FXP_WRITE: self._write,
            wire.FXP_LSTAT: self._lstat,
            wire.FXP_FSTAT: self._fstat,
            wire.FXP_SETSTAT: self._setstat,
            wire.FXP_FSETSTAT: self._fsetstat,
            wire.FXP_OPENDIR: self._opendir,
            wire.FXP_READDIR: self._readdir,
            wire.FXP_REMOVE: self._remove,
            wire.FXP_MKDIR: self._mkdir,
            wire.FXP_RMDIR: self._rmdir,
            wire.FXP_REALPATH: self._realpath,
            wire.FXP_STAT: self._stat,
            wire.FXP_RENAME: self._rename,
            wire.FXP_READLINK: self._readlink,
            wire.FXP_SYMLINK: self._symlink,
        }
        self.handlers = permissions.limited(handlers, options)

    def close_all(self) -> None:
        """Close what the client left open, and report it."""
        for opened in self.handles.remove_all():
            if isinstance(opened, files.OpenFile) and opened.outcome == "ok":
                opened.outcome = "unfinished"
            try:
                self._close_opened(opened)
            except OSError:  # it is in the report; the client is gone
                continue

    @contextmanager
    def reported(self, event: Callable[[str], events.FileEvent]) -> Iterator[None]:
        """Report the outcome of the block: `event` makes the message from it."""
        try:
            yield
        except OSError as error:
            self._sender.send(event(files.error_name(error)))
            raise
        self._sender.send(event("ok"))

    def shown(self, path: bytes) -> bytes:
        """`path` as it is reported: absolute, and otherwise as the client wrote it."""
        return path if path.startswith(b"/") else os.path.join(self._home, path)

    def set_attributes(
        self, path: bytes, attrs: wire.Attributes, change: Callable[[wire.Attributes], None]
    ) -> wire.Reply:
        """Make `change`, which sets `attrs` on what `path` names, and report it."""
        which = tuple(
            word
            for word, value in (
                ("size", attrs.size),
                ("mode", attrs.mode),
                ("times", attrs.times),
                ("owner", attrs.owner),
            )
            if value is not None
        )
        with self.reported(lambda outcome: events.AttributesSet(path=self.shown(path), which=which, outcome=outcome)):
            change(attrs)
        return DONE

    def _open(self, fields: wire.Fields) -> wire.Reply:
        path = fields.path()
        flags = fields.u32()
        mode = fields.attributes().mode
        try:
            if not permissions.may_open(self.options, flags):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self.handles.reserve()
            system = files.open_flags(flags)
            descriptor = os.open(path, system, _DEFAULT_FILE_MODE if mode is None else mode)
        except OSError as error:
            words, outcome = files.flag_words(flags), files.error_name(error)
            self._sender.send(events.FileOpenFailed(path=self.shown(path), flags=words, outcome=outcome))
            raise
        opened = files.OpenFile(descriptor, path, flags)
        return wire.FXP_HANDLE, wire.string(self.handles.add(opened))

    def _close(self, fields: wire.Fields) -> wire.Reply:
        self._close_opened(self.handles.remove(fields.string()))
        return DONE

    def _close_opened(self, opened: files.OpenFile | files.OpenDirectory) -> None:
        try:
            opened.close()
        finally:
            if isinstance(opened, files.OpenFile):
                self._sender.send(
                    events.FileClosed(
                        path=self.shown(opened.path),
                        flags=files.flag_words(opened.flags),
                        bytes_read=opened.bytes_read,
                        bytes_written=opened.bytes_written,
                        outcome=opened.outcome,
                    )
                )

    def _read(self, fields: wire.Fields) -> wire.Reply:
        opened = self.handles.file(fields.string())
        offset = fields.offset()
        length = min(fields.u32(), wire.MAX_DATA)
        count = opened.read_into(self._data_view[_DATA_AT : _DATA_AT + length], offset)
        if not count and length:
            return END_OF_FILE
        self._data[:_DATA_AT] = wire.u32(count)
        return wire.FXP_DATA, self._data_view[: _DATA_AT + count]

    def _write(self, fields: wire.Fields) -> wire.Reply:
        opened = self.handles.file(fields.string())
        offset = fields.offset()
        opened.write(fields.view(), offset)
        return DONE

    def _stat(self, fields: wire.Fields) -> wire.Reply:
        return wire.FXP_ATTRS, wire.attributes(os.stat(fields.path()))

    def _lstat(self, fields: wire.Fields) -> wire.Reply:
        return wire.FXP_ATTRS, wire.attributes(os.lstat(fields.path()))

    def _fstat(self, fields: wire.Fields) -> wire.Reply:
        return wire.FXP_ATTRS, wire.attributes(os.fstat(self.handles.file(fields.string()).descriptor))

    def _setstat(self, fields: wire.Fields) -> wire.Reply:
        path = fields.path()
        return self.set_attributes(path, fields.attributes(), lambda attrs: files.set_attributes(path, attrs))

    def _fsetstat(self, fields: wire.Fields) -> wire.Reply:
        opened = self.handles.file(fields.string())
        attrs = fields.attributes()
        return self.set_attributes(opened.path, attrs, lambda attrs: files.set_attributes(opened.descriptor, attrs))

    def _opendir(self, fields: wire.Fields) -> wire.Reply:
        path = fields.path()
        self.handles.reserve()
        return wire.FXP_HANDLE, wire.string(self.handles.add(files.OpenDirectory(path)))

    def _readdir(self, fields: wire.Fields) -> wire.Reply:
        directory = self.handles.directory(fields.string())
        now = self._now()
        entries: list[bytes] = []
        size = 0
        for name in directory.names():
            try:
                found = os.lstat(os.path.join(directory.path, name))
            except OSError:  # it went away in the meantime
                continue
            line = naming.long_name(name, found, self.accounts, now)
            entries.append(wire.name(name, line, wire.attributes(found)))
            size += len(entries[-1])
            if len(entries) >= LISTING_ENTRIES or size >= LISTING_BYTES:
                break
        return wire.names(*entries) if entries else END_OF_FILE

    def _remove(self, fields: wire.Fields) -> wire.Reply:
        path = fields.path()
        with self.reported(lambda outcome: events.FileRemoved(path=self.shown(path), outcome=outcome)):
            os.unlink(path)
        return DONE

    def _mkdir(self, fields: wire.Fields) -> wire.Reply:
        path = fields.path()
        mode = fields.attributes().mode
        with self.reported(lambda outcome: events.DirectoryMade(path=self.shown(path), outcome=outcome)):
            os.mkdir(path, _DEFAULT_DIRECTORY_MODE if mode is None else mode)
        return DONE

    def _rmdir(self, fields: wire.Fields) -> wire.Reply:
        path = fields.path()
        with self.reported(lambda outcome: events.DirectoryRemoved(path=self.shown(path), outcome=outcome)):
            os.rmdir(path)
        return DONE

    def _realpath(self, fields: wire.Fields) -> wire.Reply:
        return wire.names(wire.name(naming.real_path(fields.path())))

    def _rename(self, fields: wire.Fields) -> wire.Reply:
        return self.rename(fields, files.rename_new)

    def rename(self, fields: wire.Fields, change: Callable[[bytes, bytes], None]) -> wire.Reply:
        """Do a request with an old and a new name by `change(old, new)`, and report it."""
        old = fields.path()
        new = fields.path()
        source, target = self.shown(old), self.shown(new)
        with self.reported(lambda outcome: events.FileRenamed(source=source, target=target, outcome=outcome)):
            change(old, new)
        return DONE

    def _readlink(self, fields: wire.Fields) -> wire.Reply:
        return wire.names(wire.name(os.readlink(fields.path())))

    def _symlink(self, fields: wire.Fields) -> wire.Reply:
        """The target comes first: OpenSSH swapped the draft's arguments, and all clients follow it."""
        target = fields.path()
        path = fields.path()
        with self.reported(
            lambda outcome: events.LinkMade(path=self.shown(path), target=target, symbolic=True, outcome=outcome)
        ):
            os.symlink(target, path)
        return DONE


def _working_directory() -> bytes:
    try:
        return os.getcwdb()
    except OSError:  # it was removed: relative paths can't be resolved, and reports show them as they are
        return b""

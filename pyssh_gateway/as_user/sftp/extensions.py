"""The extended requests that OpenSSH's clients use, as its PROTOCOL file (section 4) describes them."""

import os
import select

from pyssh_gateway.as_user.sftp import files, wire
from pyssh_gateway.as_user.sftp import names as naming
from pyssh_gateway.as_user.sftp.permissions import permits_extension, refused
from pyssh_gateway.as_user.sftp.requests import DONE, Handler, Requests
from pyssh_gateway.ipc import file_events as events

COPY_BYTES = 256 * 1024
"""Bytes that copy-data moves at a time; after each piece it checks whether the client is still there."""


class Extensions:
    """The extended requests. `stdout`, where answers go, is only used to check whether the client is still there."""

    def __init__(self, requests: Requests, stdout: int) -> None:
        self._requests = requests
        self._handles = requests.handles
        self._stdout = stdout
        self._options = requests.options
        self._handlers: dict[bytes, tuple[bytes, Handler]] = {
            b"posix-rename@openssh.com": (b"1", self._posix_rename),
            b"statvfs@openssh.com": (b"2", self._statvfs),
            b"fstatvfs@openssh.com": (b"2", self._fstatvfs),
            b"hardlink@openssh.com": (b"1", self._hardlink),
            b"fsync@openssh.com": (b"1", self._fsync),
            b"lsetstat@openssh.com": (b"1", self._lsetstat),
            b"limits@openssh.com": (b"1", self._limits),
            b"expand-path@openssh.com": (b"1", self._expand_path),
            b"copy-data": (b"1", self._copy_data),
            b"home-directory": (b"1", self._home_directory),
            b"users-groups-by-id@openssh.com": (b"1", self._users_groups),
        }

    def announced(self) -> bytes:
        """The names and versions of the extensions, as the VERSION packet lists them."""
        return b"".join(
            wire.string(name) + wire.string(version)
            for name, (version, _) in self._handlers.items()
            if permits_extension(self._options, name)
        )

    def answer(self, fields: wire.Fields) -> wire.Reply:
        """Do the extended request in `fields`."""
        name = fields.string()
        found = self._handlers.get(name)
        if found is None:
            raise wire.Refusal(wire.FX_OP_UNSUPPORTED, "Operation unsupported")
        return found[1](fields) if permits_extension(self._options, name) else refused(fields)

    def _posix_rename(self, fields: wire.Fields) -> wire.Reply:
        return self._requests.rename(fields, os.rename)

    def _statvfs(self, fields: wire.Fields) -> wire.Reply:
        return wire.file_system(os.statvfs(fields.path()))

    def _fstatvfs(self, fields: wire.Fields) -> wire.Reply:
        return wire.file_system(os.fstatvfs(self._handles.file(fields.string()).descriptor))

    def _hardlink(self, fields: wire.Fields) -> wire.Reply:
        old = fields.path()
        new = fields.path()
        target, path = self._requests.shown(old), self._requests.shown(new)
        with self._requests.reported(
            lambda outcome: events.LinkMade(path=path, target=target, symbolic=False, outcome=outcome)
        ):
            os.link(old, new, follow_symlinks=False)
        return DONE

    def _fsync(self, fields: wire.Fields) -> wire.Reply:
        opened = self._handles.file(fields.string())
        try:
            os.fsync(opened.descriptor)
        except OSError as error:
            opened.met(error)
            raise
        return DONE

    def _lsetstat(self, fields: wire.Fields) -> wire.Reply:
        path = fields.path()
        attrs = fields.attributes()
        return self._requests.set_attributes(path, attrs, lambda attrs: files.set_link_attributes(path, attrs))

    def _limits(self, _fields: wire.Fields) -> wire.Reply:
        return wire.limits(self._handles.limit)

    def _expand_path(self, fields: wire.Fields) -> wire.Reply:
        return wire.names(wire.name(naming.real_path(self._requests.accounts.expand_tilde(fields.path()))))

    def _copy_data(self, fields: wire.Fields) -> wire.Reply:
        source, read_at, length = fields.string(), fields.offset(), fields.u64()
        target, write_at = fields.string(), fields.offset()
        reading, writing = self._handles.file(source), self._handles.file(target)
        if reading.path == writing.path:
            raise wire.Refusal(wire.FX_FAILURE, "a file can't be copied onto itself")
        to_the_end = not length
        buffer = memoryview(bytearray(COPY_BYTES))
        while to_the_end or length:
            wanted = COPY_BYTES if to_the_end else min(length, COPY_BYTES)
            count = reading.read_into(buffer[:wanted], read_at)
            if not count:  # the copy ends with the file, even if more was asked for, as in OpenSSH
                break
            writing.write(buffer[:count], write_at)
            read_at += count
            write_at += count
            length -= 0 if to_the_end else count
            self._check_client()
        return DONE

    def _check_client(self) -> None:
        """End the copy if the client has disconnected: a copy of /dev/zero would go on until the disk is full."""
        watch = select.poll()
        watch.register(self._stdout, 0)
        if watch.poll(0):
            raise wire.ClientGoneError

    def _home_directory(self, fields: wire.Fields) -> wire.Reply:
        return wire.names(wire.name(naming.real_path(self._requests.accounts.home_directory(fields.path()))))

    def _users_groups(self, fields: wire.Fields) -> wire.Reply:
        users, groups = wire.Fields(fields.view()), wire.Fields(fields.view())
        user_names = bytearray()
        while users.left:
            user_names += wire.string(os.fsencode(self._requests.accounts.user(users.u32())))
        group_names = bytearray()
        while groups.left:
            group_names += wire.string(os.fsencode(self._requests.accounts.group(groups.u32())))
        if len(user_names) + len(group_names) > wire.MAX_DATA:
            raise wire.Refusal(wire.FX_FAILURE, "the answer would be too long")
        return wire.FXP_EXTENDED_REPLY, wire.string(bytes(user_names)) + wire.string(bytes(group_names))

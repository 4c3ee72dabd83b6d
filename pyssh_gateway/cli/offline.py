"""The keys that would be in force, found without a server: from key files, last good copies, and perhaps the sources.

The copies belong to the monitor's account. A command must not write there, because files of root would be in the
server's way: everything happens in a temporary copy of that directory.
"""

import asyncio
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.config.types import Config
from pyssh_gateway.core import control
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.key_report import login_reports, revoked_list_reports, verdicts
from pyssh_gateway.core.access.revoked_list import MAX_BYTES
from pyssh_gateway.events import AnyEvent, KeysFailed, KeysLoaded
from pyssh_gateway.keys.copies import FETCHED_DIRECTORY
from pyssh_gateway.keys.host_keys import existing_keys
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.keys.revoked_lists import as_source
from pyssh_gateway.keys.sources import LOCAL_KINDS, ReadFile, parse_source
from pyssh_gateway.spawner.key_files import open_trusted
from pyssh_gateway.startup.preflight import certificate_files, readable_files
from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

_MAX_COPIES = 10_000
_MAX_COPY_BYTES = 8 * 1024 * 1024
"""The most files, and their largest size: more or larger ones are not ours."""

"""Sources that are files of this machine."""


class Offline(msgspec.Struct, frozen=True):
    """The keys that would be in force, and the state of each source.

    `complaints` are about copies on the disk that can't be used, and about refused lines of sources.
    """

    snapshot: KeySnapshot
    sources: tuple[control.SourceReport, ...]
    complaints: tuple[str, ...]

    @property
    def reply(self) -> control.KeysReply:
        """The same in the form of a server's reply."""
        return control.KeysReply(login_reports(self.snapshot), self.sources, revoked_list_reports(self.snapshot))


def keys_reply(config: Config) -> control.KeysReply:
    """The accounts and keys that could log in if a server started without a network. Raises Failed."""
    own = config.host_keys
    keys = existing_keys(Path(config.keys_dir), own.types, own.files)
    return msgspec.structs.replace(
        look(config, ask_all=False).reply,
        host_keys=tuple(
            control.HostKeyReport(key.key_type, key.fingerprint, key.next, spare=key.spare) for key in keys
        ),
        certificates=host_certificates(config) if keys else (),
    )


def verdicts_reply(config: Config, request: control.TryKey) -> control.VerdictsReply:
    """Whether such a server would accept a key. Raises Failed."""
    from pyssh_gateway.monitor.signatures import certificate_verified  # late: cryptography

    snapshot = look(config, ask_all=False).snapshot
    return control.VerdictsReply(verdicts(request, snapshot, time.time(), certificate_verified))


def look(config: Config, *, ask_all: bool) -> Offline:
    """Read the key files and the last good copies; with `ask_all`, ask every source, too. Raises Failed."""
    complaints: list[str] = []
    refusals: dict[str, tuple[str, ...]] = {}

    def hear(event: AnyEvent) -> None:
        if isinstance(event, KeysFailed):
            complaints.append(f"{event.source}: {event.reason}")
        elif isinstance(event, KeysLoaded):  # a later answer takes the place of an earlier one
            refusals[event.source] = event.refusals

    with _copied(Path(config.keys_dir, FETCHED_DIRECTORY)) as store:
        keyring = Keyring(config.login, config.keys, store, publish=hear, read_file=_reader(config))
        keyring.load_last_good()
        about_copies = tuple(complaints)
        sources = dict.fromkeys(parse_source(spec) for login in config.login for spec in login.keys)
        asked = [source for source in sources if ask_all or source.kind in LOCAL_KINDS]
        asked += map(as_source, config.keys.revoked_lists)
        if asked:
            asyncio.run(keyring.refresh(asked))
        # This process does not ask again, so there is no next time.
        reports = tuple(
            msgspec.structs.replace(msgspec.convert(one, control.SourceReport, from_attributes=True), next_look=None)
            for one in keyring.describe()
        )
    about_lines = tuple(f"{spec}: {refusal}" for spec, found in refusals.items() for refusal in found)
    return Offline(keyring.snapshot, reports, about_copies + about_lines)


def host_certificates(config: Config) -> tuple[control.HostCertificateReport, ...]:
    """The certificates of the existing host keys."""
    from pyssh_gateway.monitor.host_certificates import load, reports  # late: cryptography

    own = config.host_keys
    keys = existing_keys(Path(config.keys_dir), own.types, own.files)
    return reports(load(certificate_files(config), keys), time.time())


@contextmanager
def _copied(store: Path) -> Iterator[Path]:
    """A copy of the files in `store` that this account may read and that the server would trust."""
    with tempfile.TemporaryDirectory(prefix="pyssh-gateway-") as scratch:
        try:
            directory = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Failed(
                f"can't read {store}: {error.strerror}; run this as root or as the account that starts the server"
            ) from None
        else:
            try:
                _copy(directory, Path(scratch))
            finally:
                os.close(directory)
        yield Path(scratch)


def _copy(directory: int, target: Path) -> None:
    owner = os.fstat(directory).st_uid
    for name in sorted(os.listdir(directory))[:_MAX_COPIES]:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            continue
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            trusted = status.st_uid in {0, owner} and not status.st_mode & OTHERS_MAY_WRITE
            if stat.S_ISREG(status.st_mode) and trusted and status.st_size <= _MAX_COPY_BYTES:
                (target / name).touch(mode=0o600, exist_ok=False)
                (target / name).write_bytes(file.read(_MAX_COPY_BYTES))


def _reader(config: Config) -> ReadFile:
    """Reads key files as the spawner would, with the rights of this account."""
    users = readable_files(config)

    async def read(path: str) -> bytes:
        with os.fdopen(open_trusted(path, users[path]), "rb") as file:
            return file.read(MAX_BYTES + 1)

    return read

"""The SFTP server with real clients: OpenSSH's sftp and paramiko, connected directly to its descriptors."""

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.ipc.file_events import (
    AttributesSet,
    DirectoryMade,
    DirectoryRemoved,
    FileClosed,
    FileRemoved,
    FileRenamed,
    LinkMade,
)
from tests.support.sftp import CHILD, by_type, sftp
from tests.support.waiting import PATIENCE

MIB = 1024 * 1024
GIB = 1024 * MIB
needs_sftp = pytest.mark.skipif(shutil.which("sftp") is None, reason="OpenSSH's sftp is not installed")


def digest(path: Path) -> str:
    """The file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """The server's directory; client and server share one file system, so the path tells their files apart."""
    path = tmp_path / "far"
    path.mkdir()
    return path


@needs_sftp
@pytest.mark.parametrize("options", [(), ("-B", "32768", "-R", "64"), ("-B", "1000", "-R", "1")])
def test_get_and_put_are_exact(far: Path, options: tuple[str, ...]) -> None:
    """For every request size and every number of outstanding requests, data and reported byte counts are exact."""
    size = 3 * MIB + 12345
    (far / "source").write_bytes(os.urandom(size))
    _, events = sftp(far, "get source got\nput got put\n", *options)
    assert digest(far / "source") == digest(far / "got") == digest(far / "put")
    read, written = by_type(events, FileClosed)
    assert (read.path, read.bytes_read, read.outcome) == (os.fsencode(far / "source"), size, "ok")
    assert (written.path, written.bytes_written, written.outcome) == (os.fsencode(far / "put"), size, "ok")
    assert written.flags == "write create truncate"


@needs_sftp
def test_interrupted_transfers_are_resumed(far: Path) -> None:
    """reget and reput continue where the transfer stopped, and move only the rest."""
    data = os.urandom(MIB)
    (far / "source").write_bytes(data)
    for name in ("got", "put"):
        (far / name).write_bytes(data[:600_000])
    _, events = sftp(far, "reget source got\nreput source put\n")
    assert (far / "got").read_bytes() == (far / "put").read_bytes() == data
    read, written = by_type(events, FileClosed)
    assert read.bytes_read == written.bytes_written == MIB - 600_000


@needs_sftp
def test_trees_keep_their_modes_and_times(far: Path) -> None:
    """get -rp and put -rp keep a tree's modes and times."""
    tree = far / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "er" / "script").write_bytes(b"#!/bin/sh\n")
    (tree / "deep" / "er" / "script").chmod(0o750)
    (tree / "empty").mkdir()
    os.utime(tree / "deep" / "er" / "script", (1_000_000_000, 1_100_000_000))
    _, events = sftp(far, "get -rp tree got\nput -rp got put\n")
    for copy in ("got", "put"):
        found = (far / copy / "deep" / "er" / "script").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o750, 1_100_000_000)
        assert (far / copy / "empty").is_dir()
    assert {event.path for event in by_type(events, DirectoryMade)} >= {os.fsencode(far / "put" / "empty")}


@needs_sftp
def test_every_command_of_the_batch_language_works(far: Path) -> None:
    """Each command at sftp's prompt does what its manual says."""
    (far / "a").write_bytes(b"some text")
    printed, events = sftp(
        far,
        "mkdir d\nrename a d/b\nln d/b hard\nsymlink d/b soft\nchmod 600 d/b\nln -s nowhere dangling\n"
        "cd d\npwd\nlpwd\ncp b c\nrm b\ncd ..\nrename d e\ndf -h\nls -l hard\nls -1 e\n-rmdir missing\n"
        "rm e/c\nrmdir e\n",
    )
    assert f"Remote working directory: {far}/d" in printed
    assert "%Capacity" in printed
    assert "-rw-------" in printed
    assert {path.name for path in far.iterdir()} == {"dangling", "hard", "soft"}
    assert (far / "soft").readlink() == Path("d/b")
    assert (far / "hard").read_bytes() == b"some text"
    assert [(event.target, event.symbolic) for event in by_type(events, LinkMade)] == [
        (os.fsencode(far / "d" / "b"), False),
        (b"d/b", True),
        (b"nowhere", True),
    ]
    assert [event.outcome for event in by_type(events, DirectoryRemoved)] == ["ENOENT", "ok"]
    assert len(by_type(events, FileRenamed)) == 2
    assert len(by_type(events, FileRemoved)) == 2
    assert by_type(events, AttributesSet)[0].which == ("mode",)


@needs_sftp
def test_failures_are_told_as_what_they_are(far: Path) -> None:
    """The user sees the reason of a failure, and not only that there was one."""
    printed, _ = sftp(far, "-get missing\n-ls missing\n-mkdir /proc/x\n-put /etc/hostname /dev/full\n")
    assert "No such file or directory" in printed
    assert "not found" in printed


@needs_sftp
def test_ten_thousand_files_are_listed(far: Path) -> None:
    """Every name of a large directory, such as node_modules, is listed completely and once."""
    for number in range(10_000):
        (far / f"file-{number}").touch()
    printed, _ = sftp(far, "ls -1\nls -l\n")
    lines = printed.splitlines()
    assert sum(line.startswith("file-") for line in lines) == 10_000
    assert sum(line.startswith("-rw-r--r--") for line in lines) == 10_000


@needs_sftp
def test_a_file_over_4_gib_is_resumed_at_its_end(far: Path) -> None:
    """Offsets beyond 32 bits are also right with a real client."""
    with (far / "big").open("wb") as file:
        file.seek(5 * GIB)
        file.write(b"the end")
    with (far / "got").open("wb") as file:
        file.truncate(5 * GIB)
    _, events = sftp(far, "reget big got\n")
    with (far / "got").open("rb") as file:
        file.seek(5 * GIB)
        assert file.read() == b"the end"
    assert by_type(events, FileClosed)[0].bytes_read == 7


class Channel:
    """The part of a channel that paramiko's SFTPClient uses, on a plain socket."""

    def __init__(self, end: socket.socket) -> None:
        self.send = end.send
        self.recv = end.recv
        self.close = end.close

    def get_name(self) -> str:
        """The channel's name, for paramiko's log."""
        return "sftp"

    def get_transport(self) -> "Channel":
        """The connection; paramiko only calls the two methods below on it."""
        return self

    def get_log_channel(self) -> str:
        """The name of paramiko's log."""
        return "sftp"

    def get_hexdump(self) -> bool:
        """Whether paramiko logs packets."""
        return False


@contextmanager
def paramiko_client(far: Path) -> Iterator[Any]:
    """paramiko's SFTPClient on a socket that is the server's standard input and output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies' deprecation warnings are not our concern
        paramiko: Any = pytest.importorskip("paramiko")
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    reader, writer = os.pipe()
    with ours, theirs:
        server = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(writer), "0"],
            cwd=far,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            pass_fds=[writer],
        )
        theirs.close()
        os.close(writer)
        try:
            yield paramiko.SFTPClient(Channel(ours))
            ours.close()
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
            server.wait()
            os.close(reader)


def test_paramiko_reads_writes_and_lists(far: Path) -> None:
    """The most used Python client works, with its pipelined writes and prefetched reads."""
    data = os.urandom(2 * MIB)
    with paramiko_client(far) as client:
        with client.open("file", "w+b") as file:
            file.set_pipelined(True)
            file.write(data)
            file.seek(0)
            file.prefetch()
            assert file.read() == data
            assert file.stat().st_size == len(data)
            file.chmod(0o600)
            file.utime((1, 2))
            file.truncate(10)
        with client.open("file", "ab") as file:
            file.write(b"appended")
        assert (far / "file").read_bytes() == data[:10] + b"appended"
        client.mkdir("d", 0o700)
        client.symlink("file", "link")
        assert client.readlink("link") == "file"
        client.posix_rename("link", "d/link")
        with pytest.raises(OSError, match="File exists"):
            client.rename("file", "d/link")
        with pytest.raises(FileNotFoundError):
            client.stat("missing")
        assert sorted(entry.filename for entry in client.listdir_attr(".")) == ["d", "file"]
        assert client.normalize("d/..") == str(far)
        client.remove("d/link")
        client.rmdir("d")
    assert {path.name for path in far.iterdir()} == {"file"}


def test_paramiko_seeks_to_the_end_of_5_gib(far: Path) -> None:
    """A second implementation agrees about large offsets."""
    with (far / "big").open("wb") as file:
        file.truncate(5 * GIB)
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    with paramiko_client(far) as client, client.open("big", "rb") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"

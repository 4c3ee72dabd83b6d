"""The options of internal-sftp, compared with OpenSSH's server request by request, and their traces in the log."""

import stat
from pathlib import Path

import pytest

from pyssh_gateway.as_user.sftp import wire
from pyssh_gateway.core.transfers.sftp_options import READS, WRITES
from tests.support.sftp import OPENSSH_SERVER, Server, serving

READ, WRITE, CREATE, TRUNCATE = wire.FXF_READ, wire.FXF_WRITE, wire.FXF_CREAT, wire.FXF_TRUNC
NEEDS_OPENSSH = pytest.mark.skipif(not OPENSSH_SERVER.exists(), reason="no sftp-server to compare with")


def opening(server: Server, path: bytes, flags: int) -> int:
    """The status of an attempt to open; OK if it succeeded."""
    kind, body = server.ask(wire.FXP_OPEN, wire.string(path), wire.u32(flags), wire.NO_ATTRIBUTES)
    if kind == wire.FXP_STATUS:
        return int.from_bytes(body[:4], "big")
    server.ask(wire.FXP_CLOSE, body)
    return wire.FX_OK


def everything(server: Server, directory: Path) -> dict[str, int]:
    """The result of every request, by name: the type of the answer, or the status."""
    (directory / "f").write_bytes(b"content")
    (directory / "link").symlink_to("f")
    here, path = wire.string(b"."), wire.string(b"f")
    no_handle = wire.string(b"\0\0\0\x63")
    asked: dict[str, tuple[int, bytes]] = {
        "lstat": (wire.FXP_LSTAT, path),
        "stat": (wire.FXP_STAT, path),
        "setstat": (wire.FXP_SETSTAT, path + wire.NO_ATTRIBUTES),
        "realpath": (wire.FXP_REALPATH, here),
        "readlink": (wire.FXP_READLINK, wire.string(b"link")),
        "opendir": (wire.FXP_OPENDIR, here),
        "readdir": (wire.FXP_READDIR, no_handle),
        "read": (wire.FXP_READ, no_handle + bytes(8) + wire.u32(5)),
        "write": (wire.FXP_WRITE, no_handle + bytes(8) + wire.string(b"x")),
        "fstat": (wire.FXP_FSTAT, no_handle),
        "fsetstat": (wire.FXP_FSETSTAT, no_handle + wire.NO_ATTRIBUTES),
        "close": (wire.FXP_CLOSE, no_handle),
        "mkdir": (wire.FXP_MKDIR, wire.string(b"d") + wire.NO_ATTRIBUTES),
        "rmdir": (wire.FXP_RMDIR, wire.string(b"d")),
        "rename": (wire.FXP_RENAME, path + wire.string(b"g")),
        "symlink": (wire.FXP_SYMLINK, path + wire.string(b"l2")),
        "posix-rename": (wire.FXP_EXTENDED, wire.string(b"posix-rename@openssh.com") + wire.string(b"g") + path),
        "hardlink": (wire.FXP_EXTENDED, wire.string(b"hardlink@openssh.com") + path + wire.string(b"h")),
        "statvfs": (wire.FXP_EXTENDED, wire.string(b"statvfs@openssh.com") + path),
        "fstatvfs": (wire.FXP_EXTENDED, wire.string(b"fstatvfs@openssh.com") + no_handle),
        "fsync": (wire.FXP_EXTENDED, wire.string(b"fsync@openssh.com") + no_handle),
        "lsetstat": (
            wire.FXP_EXTENDED,
            wire.string(b"lsetstat@openssh.com") + wire.string(b"link") + wire.NO_ATTRIBUTES,
        ),
        "limits": (wire.FXP_EXTENDED, wire.string(b"limits@openssh.com")),
        "expand-path": (wire.FXP_EXTENDED, wire.string(b"expand-path@openssh.com") + wire.string(b"~")),
        "copy-data": (
            wire.FXP_EXTENDED,
            wire.string(b"copy-data") + no_handle + bytes(16) + no_handle + bytes(8),
        ),
        "home-directory": (wire.FXP_EXTENDED, wire.string(b"home-directory") + wire.string(b"root")),
        "users-groups-by-id": (
            wire.FXP_EXTENDED,
            wire.string(b"users-groups-by-id@openssh.com") + wire.string(b"") * 2,
        ),
        "remove": (wire.FXP_REMOVE, path),
    }
    found = {"open": opening(server, b"f", READ)}
    for name, (kind, body) in asked.items():
        answered, rest = server.ask(kind, body)
        found[name] = int.from_bytes(rest[:4], "big") if answered == wire.FXP_STATUS else answered
    return found


@NEEDS_OPENSSH
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-R",),
        ("-P", "remove,rename,posix-rename,stat,readlink,copy-data,limits,open,write"),
        ("-p", "open,close,opendir,readdir,lstat,statvfs,realpath,mkdir"),
        ("-R", "-p", "mkdir,stat"),
    ],
    ids=" ".join,
)
def test_each_request_as_openssh_has_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Protects forced commands written for sshd: the same requests are refused, and the same extensions announced."""
    fates, announced = [], []
    for openssh in (False, True):
        directory = tmp_path / str(openssh)
        directory.mkdir()
        with serving(directory, openssh=openssh, greet=False, options=options) as server:
            announced.append(server.greet())
            fates.append(everything(server, directory))
    assert set(fates[0]) == READS | WRITES
    refused = [{name for name, fate in found.items() if fate == wire.FX_PERMISSION_DENIED} for found in fates]
    assert refused[0] == refused[1]
    assert bool(refused[0]) == bool(options)
    assert [name in announced[0] for name in (b"posix-rename", b"statvfs", b"limits")] == [
        name in announced[1] for name in (b"posix-rename", b"statvfs", b"limits")
    ]


@NEEDS_OPENSSH
def test_what_may_be_opened_read_only(tmp_path: Path) -> None:
    """With -R, opening a file never writes, creates or truncates it, and each refused attempt is logged."""
    (tmp_path / "f").write_bytes(b"content")
    ways = (READ, WRITE, READ | WRITE, READ | CREATE, READ | TRUNCATE, CREATE, 0)
    with serving(tmp_path, options=("-R",)) as ours, serving(tmp_path, openssh=True, options=("-R",)) as theirs:
        fates = [[opening(server, b"f", flags) for flags in ways] for server in (ours, theirs)]
        ours.finish()
        told = [(event.path, event.outcome) for event in ours.events() if event.outcome != "ok"]  # type: ignore[union-attr]  # all are of files
    assert fates[0] == fates[1] == [0, 3, 3, 3, 3, 3, 0]
    assert told == [(bytes(tmp_path / "f"), "EACCES")] * 5
    assert (tmp_path / "f").read_bytes() == b"content"


def test_where_it_starts_and_its_umask(tmp_path: Path) -> None:
    """With -d and -u, relative names are below the given directory, and modes are limited by the given umask."""
    (tmp_path / "in").mkdir()
    with serving(tmp_path, options=("-d", f"{tmp_path}/in", "-u", "077")) as server:
        assert opening(server, b"f", WRITE | CREATE) == wire.FX_OK
        server.finish()
        (closed,) = server.events()
    assert stat.S_IMODE((tmp_path / "in" / "f").stat().st_mode) == 0o600
    assert closed.path == bytes(tmp_path / "in" / "f")  # type: ignore[union-attr]  # it is of a file


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    """If the start directory is missing, a client starts at home as with sshd, and the server also reports it."""
    with serving(tmp_path, options=("-d", "/nowhere")) as server:
        assert opening(server, b"f", WRITE | CREATE) == wire.FX_OK
        status, _, errors = server.finish()
    assert (status, b"can't start in /nowhere" in errors) == (0, True)
    assert (tmp_path / "f").exists()

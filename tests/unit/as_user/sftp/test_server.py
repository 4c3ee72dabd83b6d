"""The SFTP server, packet by packet: compared with the draft and with OpenSSH's server, and with malformed input."""

import os
import pwd
import resource
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyssh_gateway.as_user.sftp import wire
from pyssh_gateway.ipc.file_events import (
    AttributesSet,
    DirectoryMade,
    DirectoryRemoved,
    FileClosed,
    FileOpenFailed,
    FileRemoved,
    FileRenamed,
    LinkMade,
)
from tests.support.sftp import NOBODY, OPENSSH_SERVER, Server, attributes, serving, split_names
from tests.support.waiting import PATIENCE

READ, WRITE, CREATE = wire.FXF_READ, wire.FXF_WRITE, wire.FXF_CREAT
MIB = 1024 * 1024
GIB = 1024 * MIB
S = wire.string
TIMES = (1_000_000_000, 1_700_000_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that works in an empty directory."""
    with serving(tmp_path) as running:
        yield running


def words(body: bytes) -> list[bytes]:
    """`body` as a list of strings."""
    fields = wire.Fields(memoryview(body))
    found = []
    while fields.left:
        found.append(fields.string())
    return found


def only_name(answer: tuple[int, bytes]) -> bytes:
    """The only name in a NAME packet."""
    assert answer[0] == wire.FXP_NAME, answer
    ((name, _, _),) = split_names(answer[1])
    return name


def pair(offset: int, length: int) -> bytes:
    """The offset and length fields of a READ."""
    return struct.pack(">QI", offset, length)


def test_the_greeting_lists_the_extensions(tmp_path: Path) -> None:
    """The version packet announces every extension, since clients only use those announced with a version they know."""
    with serving(tmp_path, greet=False) as server:
        found = words(server.greet())
    assert dict(zip(found[::2], found[1::2], strict=True)) == {
        b"posix-rename@openssh.com": b"1",
        b"statvfs@openssh.com": b"2",
        b"fstatvfs@openssh.com": b"2",
        b"hardlink@openssh.com": b"1",
        b"fsync@openssh.com": b"1",
        b"lsetstat@openssh.com": b"1",
        b"limits@openssh.com": b"1",
        b"expand-path@openssh.com": b"1",
        b"copy-data": b"1",
        b"home-directory": b"1",
        b"users-groups-by-id@openssh.com": b"1",
    }


class Observer:
    """Records what a client sees of a session, in a form that can be compared between servers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen: list[object] = []

    def status(self, kind: int, *fields: bytes) -> None:
        """Record the status of a request."""
        self.seen.append(self.server.status(kind, *fields))

    def extended(self, name: bytes, *fields: bytes) -> None:
        """Record the status of an extended request."""
        self.status(wire.FXP_EXTENDED, S(name), *fields)

    def answer(self, kind: int, *fields: bytes) -> None:
        """Record an answer, but only the code of a STATUS: its text differs between servers."""
        answered, body = self.server.ask(kind, *fields)
        self.seen.append((answered, body[:4] if answered == wire.FXP_STATUS else body))


def opening_reading_writing(see: Observer) -> None:
    """Open flags, data and its limits, invalid handles."""
    server = see.server
    for flags in (READ, WRITE, READ | WRITE, 0):
        see.status(wire.FXP_OPEN, S(b"missing"), wire.u32(flags), wire.NO_ATTRIBUTES)
    see.status(wire.FXP_OPEN, S(b""), wire.u32(READ), wire.NO_ATTRIBUTES)
    see.status(wire.FXP_OPEN, S(b"x" * 300), wire.u32(READ), wire.NO_ATTRIBUTES)
    see.status(wire.FXP_OPEN, S(b"nodir/x"), wire.u32(WRITE | CREATE), wire.NO_ATTRIBUTES)
    handle = server.open(b"file", READ | WRITE | CREATE | wire.FXF_EXCL, attributes(mode=0o100666))
    see.status(wire.FXP_OPEN, S(b"file"), wire.u32(WRITE | CREATE | wire.FXF_EXCL), wire.NO_ATTRIBUTES)
    see.status(wire.FXP_OPEN, S(b"file/x"), wire.u32(READ), wire.NO_ATTRIBUTES)
    see.status(wire.FXP_WRITE, handle, struct.pack(">Q", 0), S(b"hello, world"))
    see.status(wire.FXP_WRITE, handle, struct.pack(">Q", 20), S(b""))
    see.status(wire.FXP_WRITE, handle, struct.pack(">Q", 2**63), S(b"x"))
    for place in (pair(0, 5), pair(7, 100), pair(0, 0), pair(12, 1), pair(1000, 1), pair(2**63, 1)):
        answered, body = server.ask(wire.FXP_READ, handle, place)
        see.seen.append((answered, body if answered == wire.FXP_DATA else body[:4]))
    see.status(wire.FXP_FSETSTAT, handle, attributes(size=5, mode=0o107755, times=TIMES))
    see.answer(wire.FXP_FSTAT, handle)
    see.status(wire.FXP_CLOSE, handle)
    for kind in (wire.FXP_CLOSE, wire.FXP_FSTAT, wire.FXP_READDIR):
        see.status(kind, handle)
    see.status(wire.FXP_READ, S(b"nonsense"), pair(0, 1))
    see.status(wire.FXP_WRITE, S(b"\0\0\1\0"), struct.pack(">Q", 0), S(b"x"))
    handle = server.open(b"file", WRITE | wire.FXF_APPEND)
    see.status(wire.FXP_WRITE, handle, struct.pack(">Q", 0), S(b"++"))
    see.status(wire.FXP_READ, handle, pair(0, 1))
    see.status(wire.FXP_CLOSE, handle)
    handle = server.open(b"file", READ)
    see.seen.append(server.read(handle, 0, 100))
    see.status(wire.FXP_WRITE, handle, struct.pack(">Q", 0), S(b"x"))
    see.status(wire.FXP_CLOSE, handle)


def attributes_by_name(see: Observer) -> None:
    """Set and read a file's attributes."""
    see.status(wire.FXP_SETSTAT, S(b"file"), attributes(mode=0o640))
    see.status(wire.FXP_SETSTAT, S(b"file"), attributes(size=2**40, times=TIMES))
    see.answer(wire.FXP_STAT, S(b"file"))
    see.status(wire.FXP_SETSTAT, S(b"file"), attributes(size=3, times=TIMES))
    see.status(wire.FXP_SETSTAT, S(b"file"), attributes(owner=(os.getuid(), os.getgid())))
    see.status(wire.FXP_SETSTAT, S(b"file"), attributes(owner=(2**32 - 1, 2**32 - 1)))
    see.status(wire.FXP_SETSTAT, S(b"file"), attributes(size=2**63))
    see.status(wire.FXP_SETSTAT, S(b"file"), wire.u32(wire.ATTR_EXTENDED) + wire.u32(1) + S(b"a@b") + S(b"value"))
    see.status(wire.FXP_SETSTAT, S(b"missing"), attributes(mode=0o600))


def directories(see: Observer) -> None:
    """Make and list directories, and use directory requests on files."""
    see.status(wire.FXP_MKDIR, S(b"directory"), attributes(mode=0o40777))
    see.status(wire.FXP_MKDIR, S(b"directory"), wire.NO_ATTRIBUTES)
    see.status(wire.FXP_SETSTAT, S(b"directory"), attributes(times=TIMES))
    see.answer(wire.FXP_STAT, S(b"directory"))
    see.status(wire.FXP_OPENDIR, S(b"missing"))
    see.status(wire.FXP_OPENDIR, S(b"file"))
    see.status(wire.FXP_REMOVE, S(b"directory"))
    see.status(wire.FXP_RMDIR, S(b"file"))


def links(see: Observer) -> None:
    """Symbolic and hard links, and attributes of links themselves."""
    server = see.server
    see.status(wire.FXP_SYMLINK, S(b"file"), S(b"link"))
    see.status(wire.FXP_SYMLINK, S(b"file"), S(b"link"))
    see.status(wire.FXP_SYMLINK, S(b"nowhere\n\xff"), S(b"dangling"))
    see.status(wire.FXP_SYMLINK, S(b"loop"), S(b"loop"))
    for name in (b"link", b"dangling", b"loop", b"file", b"missing"):
        answered, body = server.ask(wire.FXP_READLINK, S(name))
        see.seen.append((answered, body if answered == wire.FXP_NAME else body[:4]))
    see.status(wire.FXP_STAT, S(b"dangling"))
    see.status(wire.FXP_STAT, S(b"loop"))
    for name in (b"link", b"dangling", b"file", b"directory"):
        see.extended(b"lsetstat@openssh.com", S(name), attributes(times=TIMES))
    see.extended(b"lsetstat@openssh.com", S(b"file"), attributes(mode=0o600))
    see.extended(b"lsetstat@openssh.com", S(b"link"), attributes(mode=0o600))
    see.extended(b"lsetstat@openssh.com", S(b"link"), attributes(size=1))
    see.answer(wire.FXP_LSTAT, S(b"link"))
    see.extended(b"hardlink@openssh.com", S(b"file"), S(b"hard"))
    see.extended(b"hardlink@openssh.com", S(b"file"), S(b"hard"))
    see.extended(b"hardlink@openssh.com", S(b"missing"), S(b"hard2"))


def renaming(see: Observer) -> None:
    """Both kinds of rename, onto names that exist and names that do not."""
    for old, new in ((b"file", b"hard"), (b"hard", b"hard3"), (b"missing", b"x"), (b"directory", b"hard3")):
        see.status(wire.FXP_RENAME, S(old), S(new))
    see.status(wire.FXP_RENAME, S(b"directory"), S(b"renamed"))
    see.status(wire.FXP_RENAME, S(b"link"), S(b"link2"))
    see.extended(b"posix-rename@openssh.com", S(b"file"), S(b"hard3"))
    see.extended(b"posix-rename@openssh.com", S(b"hard3"), S(b"over"))
    see.extended(b"posix-rename@openssh.com", S(b"missing"), S(b"over"))
    see.status(wire.FXP_REMOVE, S(b"hard3"))
    see.status(wire.FXP_REMOVE, S(b"hard3"))


def copying(see: Observer) -> None:
    """Copy from handle to handle."""
    server = see.server
    source, target = server.open(b"over", READ), server.open(b"copy", READ | WRITE | CREATE)
    numbers = struct.pack
    see.extended(b"copy-data", source, numbers(">QQ", 1, 0), target, numbers(">Q", 2))
    see.extended(b"copy-data", source, numbers(">QQ", 0, 2), target, numbers(">Q", 0))
    see.extended(b"copy-data", source, numbers(">QQ", 0, 99), target, numbers(">Q", 0))
    see.extended(b"copy-data", target, numbers(">QQ", 0, 2), target, numbers(">Q", 0))
    see.extended(b"copy-data", source, numbers(">QQ", 0, 2), S(b"none"), numbers(">Q", 0))
    see.seen.append(server.read(target, 0, 100))
    see.extended(b"fsync@openssh.com", target)
    see.status(wire.FXP_CLOSE, target)
    see.status(wire.FXP_SETSTAT, S(b"copy"), attributes(times=TIMES))


def paths(see: Observer) -> None:
    """Real paths, relative to a directory whose name differs between the two servers."""
    server = see.server
    base = only_name(server.ask(wire.FXP_REALPATH, S(b"")))
    for path in (b".", b"..", b"/", b"/..", b"//usr//.", b"missing", b"missing/", b"missing/x", b"renamed/../over"):
        for fields in ((wire.FXP_REALPATH, S(path)), (wire.FXP_EXTENDED, S(b"expand-path@openssh.com"), S(path))):
            answered, body = server.ask(*fields)
            see.seen.append(
                body[:4] if answered == wire.FXP_STATUS else only_name((answered, body)).replace(base, b"$")
            )
    for path in (b"dangling", b"loop", b"over/x", b"over/.", b"link2", b"/dev/fd/0/x"):
        answered, body = server.ask(wire.FXP_REALPATH, S(path))
        see.seen.append(body[:4] if answered == wire.FXP_STATUS else only_name((answered, body)).replace(base, b"$"))


def accounts(see: Observer) -> None:
    """Requests about the machine's accounts and file systems."""
    server = see.server
    for path in (b"~root", b"~root/x"):
        answered, body = server.extended(b"expand-path@openssh.com", S(path))
        see.seen.append(body[:4] if answered == wire.FXP_STATUS else body)
    see.extended(b"expand-path@openssh.com", S(b"~no such user/"))
    see.seen.append(server.extended(b"home-directory", S(b"root")))
    see.seen.append(
        server.extended(b"users-groups-by-id@openssh.com", S(struct.pack(">III", 0, 65534, 4242424)), S(bytes(4)))
    )
    see.extended(b"statvfs@openssh.com", S(b"missing"))
    see.extended(b"no-such@example.com", S(b"x"))


def observed(server: Server) -> list[object]:
    """The observations of a long session in an empty directory."""
    see = Observer(server)
    for topic in (
        opening_reading_writing,
        attributes_by_name,
        directories,
        links,
        renaming,
        copying,
        paths,
        accounts,
    ):
        topic(see)
    # The listing shows the final state. Access times are left out: they are the current time.
    see.status(wire.FXP_RMDIR, S(b"renamed"))
    for name, line, found in sorted(server.listing(b".")):
        if name not in {b".", b"..", b"loop"}:
            see.seen.append((name, line, found[:-8], found[-4:]))
    return see.seen


@pytest.mark.skipif(not OPENSSH_SERVER.exists(), reason="OpenSSH's sftp-server is not installed")
def test_a_long_session_looks_as_it_does_on_openssh(tmp_path: Path) -> None:
    """Answers, attributes, listings and error codes equal those of OpenSSH's server, with which clients are tested."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "openssh").mkdir()
    with serving(tmp_path / "ours") as ours, serving(tmp_path / "openssh", openssh=True) as openssh:
        mine, theirs = observed(ours), observed(openssh)
    for index, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        assert one == other, f"observation {index}, after {mine[max(0, index - 3) : index]}"


def test_names_may_be_any_bytes(server: Server, tmp_path: Path) -> None:
    """Names are bytes and not text: newlines and invalid UTF-8 are preserved in both directions."""
    for name in (b"new\nline", b"\xff\xfe", b" ", b"-rf", "ü".encode()):
        server.status(wire.FXP_CLOSE, server.open(name, WRITE | CREATE))
        assert name in {os.fsencode(path.name) for path in tmp_path.iterdir()}
        assert name in {entry[0] for entry in server.listing(b".")}
        assert only_name(server.ask(wire.FXP_REALPATH, S(name))).endswith(b"/" + name)
    assert server.status(wire.FXP_OPEN, S(b"a\0b"), wire.u32(READ), wire.NO_ATTRIBUTES) == wire.FX_BAD_MESSAGE


def test_ten_thousand_entries_come_in_bounded_pieces(server: Server, tmp_path: Path) -> None:
    """A large directory is listed completely, in packets of a size that every client accepts, and in bounded memory."""
    names = {f"{number:04}".encode() + b"x" * 240 for number in range(10_000)}
    for name in names:
        (tmp_path / name.decode()).touch()
    before = server.peak()
    assert {entry[0] for entry in server.listing(b".")} == names | {b".", b".."}
    assert server.peak() - before < 2048


def test_the_end_of_a_sparse_file_over_4_gib_is_reached(server: Server, tmp_path: Path) -> None:
    """Offsets and sizes have 64 bits in every request, and holes stay holes."""
    size = 5 * GIB
    handle = server.open(b"big", READ | WRITE | CREATE)
    assert server.status(wire.FXP_WRITE, handle, struct.pack(">Q", size - 4), S(b"last")) == wire.FX_OK
    assert server.read(handle, size - 8, 100) == b"\0\0\0\0last"
    _, found = server.ask(wire.FXP_FSTAT, handle)
    assert int.from_bytes(found[4:12], "big") == size
    assert (tmp_path / "big").stat().st_blocks * 512 < MIB
    assert server.status(wire.FXP_FSETSTAT, handle, attributes(size=size + GIB)) == wire.FX_OK
    assert (tmp_path / "big").stat().st_size == size + GIB


def test_the_file_mode_asked_for_is_under_the_umask(server: Server, tmp_path: Path) -> None:
    """A file requested with mode 0777 gets 0755, as in a shell of the account."""
    server.open(b"given", WRITE | CREATE, attributes(mode=0o777))
    server.open(b"default", WRITE | CREATE)
    assert stat.S_IMODE((tmp_path / "given").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "default").stat().st_mode) == 0o644


def test_a_write_with_a_tail_behind_its_data_is_taken(server: Server, tmp_path: Path) -> None:
    """Extra bytes after a WRITE's data are ignored, as in OpenSSH: rclone's library sends its whole buffer."""
    handle = server.open(b"file", WRITE | CREATE)
    assert server.status(wire.FXP_WRITE, handle, bytes(8), S(b"data"), b"tail" * 100) == wire.FX_OK
    assert (tmp_path / "file").read_bytes() == b"data"


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Answers come in the order of the requests: clients send dozens ahead, and some rely on the order."""
    handle = server.open(b"file", READ | WRITE | CREATE)
    requests, expected = b"", []
    for number in range(300):
        writing = number % 2 == 0
        kind = wire.FXP_WRITE if writing else wire.FXP_READ
        rest = S(bytes([number % 256]) * 1000) if writing else wire.u32(1000)
        requests += S(bytes([kind]) + wire.u32(number) + handle + bytes(8) + rest)
        expected.append((wire.FXP_STATUS if writing else wire.FXP_DATA, number))
    server.write(requests)
    answers = [server.receive() for _ in expected]
    assert [answer[:2] for answer in answers] == expected
    assert answers[-1][2] == S(bytes([298 % 256]) * 1000)


def test_limits_are_openssh_s_and_hold(server: Server) -> None:
    """The announced limits are OpenSSH's and are kept; a read of 4 GiB returns one packet and needs no more memory."""
    kind, body = server.extended(b"limits@openssh.com")
    assert kind == wire.FXP_EXTENDED_REPLY
    packet, read, write, handles = struct.unpack(">4Q", body)
    assert (packet, read, write) == (256 * 1024, 255 * 1024, 255 * 1024)
    file = server.open(b"file", READ | WRITE | CREATE)
    before = server.peak()
    assert server.status(wire.FXP_WRITE, file, bytes(8), S(b"w" * write)) == wire.FX_OK
    assert server.read(file, 0, 2**32 - 1) == b"w" * read
    opened = [file]
    while True:
        answered, handle = server.ask(wire.FXP_OPEN, S(b"file"), wire.u32(WRITE | wire.FXF_TRUNC), wire.NO_ATTRIBUTES)
        if answered == wire.FXP_STATUS:
            break
        opened.append(handle)
    assert len(opened) == handles <= min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    assert server.status(wire.FXP_OPENDIR, S(b".")) == wire.FX_FAILURE
    assert server.status(wire.FXP_CLOSE, file) == wire.FX_OK
    assert server.ask(wire.FXP_OPENDIR, S(b"."))[0] == wire.FXP_HANDLE
    assert server.peak() - before < 4096


def test_statvfs_by_name_and_by_handle(server: Server, tmp_path: Path) -> None:
    """`df` in sftp and sshfs get the figures of the file's own file system."""
    handle = server.open(b"file", WRITE | CREATE)
    found = os.statvfs(tmp_path)
    for kind, body in (
        server.extended(b"statvfs@openssh.com", S(b".")),
        server.extended(b"fstatvfs@openssh.com", handle),
    ):
        assert kind == wire.FXP_EXTENDED_REPLY
        figures = struct.unpack(">11Q", body)
        assert figures[:3] == (found.f_bsize, found.f_frsize, found.f_blocks)
        assert figures[10] == found.f_namemax


def test_a_tilde_is_the_account_s_home(server: Server) -> None:
    """`~/file`, which scp and sftp send unchanged, is expanded to the account's home, not to the working directory."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir).resolve()
    for path, expected in ((b"~", bytes(home)), (b"~/./x", bytes(home / "x"))):
        assert only_name(server.extended(b"expand-path@openssh.com", S(path))) == expected


def test_an_unknown_request_is_unsupported_and_harmless(server: Server) -> None:
    """An unknown request gets OP_UNSUPPORTED, and the session continues."""
    assert server.status(99, S(b"x")) == wire.FX_OP_UNSUPPORTED
    assert server.status(wire.FXP_EXTENDED, S(b"check-file"), S(b"x")) == wire.FX_OP_UNSUPPORTED
    assert server.ask(wire.FXP_STAT, S(b"."))[0] == wire.FXP_ATTRS


def test_too_many_ids_are_refused(server: Server) -> None:
    """A request whose answer would exceed the maximum packet size is refused."""
    ids = S(bytes(4) * 60_000)
    code = server.status(wire.FXP_EXTENDED, S(b"users-groups-by-id@openssh.com"), ids, S(b""))
    assert code == wire.FX_FAILURE


def test_a_copy_ends_when_the_client_has_gone(tmp_path: Path) -> None:
    """An endless copy, such as from /dev/zero, ends with its connection."""
    with serving(tmp_path) as server:
        source, target = server.open(b"/dev/zero", READ), server.open(b"/dev/null", WRITE)
        server.send(bytes([wire.FXP_EXTENDED]) + wire.u32(9) + S(b"copy-data") + source + bytes(16) + target + bytes(8))
        assert server.process.stdout is not None
        server.process.stdout.close()
        assert server.process.wait(PATIENCE) == 0


def test_what_was_done_is_reported(tmp_path: Path) -> None:
    """The audit log can report each operation with its file, the bytes moved, and its failure."""
    with serving(tmp_path) as server:
        handle = server.open(b"file", READ | WRITE | CREATE)
        server.status(wire.FXP_WRITE, handle, bytes(8), S(b"x" * 1000))
        server.read(handle, 0, 10)
        server.status(wire.FXP_FSETSTAT, handle, attributes(mode=0o600, times=(1, 2)))
        server.status(wire.FXP_CLOSE, handle)
        server.status(wire.FXP_OPEN, S(b"gone"), wire.u32(READ), wire.NO_ATTRIBUTES)
        server.status(wire.FXP_SETSTAT, S(b"gone"), attributes(size=3))
        server.status(wire.FXP_MKDIR, S(b"/missing/\xff"), wire.NO_ATTRIBUTES)
        server.status(wire.FXP_RMDIR, S(b"gone"))
        server.status(wire.FXP_SYMLINK, S(b"target"), S(b"link"))
        server.status(wire.FXP_RENAME, S(b"file"), S(b"link"))
        server.status(wire.FXP_REMOVE, S(b"link"))
        server.status(wire.FXP_READ, server.open(b".", READ), pair(0, 1))
        server.open(b"file", READ)
        assert server.finish() == (0, b"", b"")
        events = server.events()
    base = os.fsencode(tmp_path) + b"/"
    file, gone, link = base + b"file", base + b"gone", base + b"link"
    flags = "read write create"
    ends = [
        FileClosed(path=file, flags="read", bytes_read=0, bytes_written=0, outcome="unfinished"),
        FileClosed(path=base + b".", flags="read", bytes_read=0, bytes_written=0, outcome="EISDIR"),
    ]
    assert events == [
        AttributesSet(path=file, which=("mode", "times"), outcome="ok"),
        FileClosed(path=file, flags=flags, bytes_read=10, bytes_written=1000, outcome="ok"),
        FileOpenFailed(path=gone, flags="read", outcome="ENOENT"),
        AttributesSet(path=gone, which=("size",), outcome="ENOENT"),
        DirectoryMade(path=b"/missing/\xff", outcome="ENOENT"),
        DirectoryRemoved(path=gone, outcome="ENOENT"),
        LinkMade(path=link, target=b"target", symbolic=True, outcome="ok"),
        FileRenamed(source=file, target=link, outcome="EEXIST"),
        FileRemoved(path=link, outcome="ok"),
        *ends,
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_rights_are_those_of_the_process(tmp_path: Path) -> None:
    """The server has no more rights than the account, and new files belong to the account."""
    tmp_path.chmod(0o777)
    with serving(tmp_path, uid=NOBODY) as server:
        denied = server.status(wire.FXP_OPEN, S(b"/etc/shadow"), wire.u32(READ), wire.NO_ATTRIBUTES)
        assert denied == wire.FX_PERMISSION_DENIED
        server.open(b"mine", WRITE | CREATE)
        assert (tmp_path / "mine").stat().st_uid == NOBODY
        assert server.status(wire.FXP_SETSTAT, S(b"mine"), attributes(owner=(0, 0))) == wire.FX_PERMISSION_DENIED
        home = only_name(server.extended(b"home-directory", S(b"")))
        assert home.decode() == pwd.getpwuid(NOBODY).pw_dir


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\0\0", b"a packet of 0 bytes"),
        (struct.pack(">I", 256 * 1024 + 1), b"a packet of 262145 bytes"),
        (b"GET / HTTP/1.1\r\n", b"a packet of 1195725856 bytes"),
        (S(bytes([wire.FXP_STAT]) + wire.u32(1) + wire.u32(50) + b"short"), b"in the middle of a field"),
        (S(bytes([wire.FXP_SETSTAT]) + wire.u32(1) + S(b"x") + wire.u32(1)), b"in the middle of a field"),
    ],
)
def test_malformed_packets_end_the_session(server: Server, data: bytes, said: bytes) -> None:
    """A malformed packet ends the session with one line, after the earlier requests were answered."""
    stat_root = S(bytes([wire.FXP_STAT]) + wire.u32(77) + S(b"/"))
    server.write(stat_root + data)
    status, out, err = server.finish()
    assert status == 1
    assert out[4:9] == bytes([wire.FXP_ATTRS]) + wire.u32(77)
    assert said in err
    assert err.count(b"\n") == 1


def test_a_request_before_the_greeting_ends_the_session(tmp_path: Path) -> None:
    """A request before the client's version packet ends the session, since the client may not speak SFTP."""
    with serving(tmp_path, greet=False) as server:
        server.send(bytes([wire.FXP_STAT]) + wire.u32(1) + S(b"/"))
        status, out, err = server.finish()
    assert (status, out) == (1, b"")
    assert b"not the client's version" in err


def test_a_client_that_stops_listening_ends_it_quietly(server: Server) -> None:
    """A connection that drops in the middle of an answer leaves no message on standard error."""
    assert server.process.stdout is not None
    server.process.stdout.close()
    server.send(bytes([wire.FXP_STAT]) + wire.u32(1) + S(b"/"))
    assert server.process.wait(PATIENCE) == 0
    assert server.process.stderr is not None
    assert server.process.stderr.read() == b""


def test_an_input_that_ends_within_a_packet_ends_it_quietly(server: Server) -> None:
    """An input that ends in the middle of a packet leaves no message on standard error."""
    server.write(b"\0\0\1\0\x05half")
    assert server.finish() == (0, b"", b"")


def test_a_full_file_system_is_an_error_of_the_request(server: Server, tmp_path: Path) -> None:
    """A full file system is reported as an error of the request, and the session continues."""
    handle = server.open(b"/dev/full", WRITE)
    assert server.status(wire.FXP_WRITE, handle, bytes(8), S(b"x")) == wire.FX_FAILURE
    server.status(wire.FXP_CLOSE, handle)
    server.finish()
    (event,) = server.events()
    assert isinstance(event, FileClosed)
    assert (event.outcome, event.bytes_written) == ("ENOSPC", 0)


NAMES = st.sampled_from([b"", b".", b"a", b"b", b"a/b", b"d", b"\xff\n", b"x" * 300, b"nul\0", b"~", b"~x"])
WORDS = st.sampled_from([0, 1, 2, 3, 0o777, 255 * 1024, 2**31 - 1, 2**31, 2**32 - 1])
FIELDS = st.one_of(
    NAMES.map(wire.string),
    WORDS.map(wire.u32),
    st.sampled_from([0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1]).map(lambda value: struct.pack(">Q", value)),
    st.integers(0, 3).map(lambda handle: S(wire.u32(handle))),
    st.sampled_from([b"copy-data", b"limits@openssh.com", b"lsetstat@openssh.com", b"expand-path@openssh.com"]).map(S),
    st.integers(0, 15).map(lambda flags: wire.u32(flags) + bytes(range(1, 33))),
    st.binary(max_size=12),
)
KINDS = st.one_of(st.integers(1, 21), st.just(200), st.integers(0, 255))
PACKETS = st.builds(
    lambda kind, number, fields: S(bytes([kind]) + wire.u32(number) + b"".join(fields)),
    KINDS,
    st.integers(0, 2**32 - 1),
    st.lists(FIELDS, max_size=6),
)
STREAMS = st.lists(st.one_of(PACKETS, PACKETS, PACKETS, st.binary(max_size=40)), max_size=30).map(b"".join)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STREAMS)
def test_nonsense_never_hangs_or_breaks_the_server(tmp_path: Path, data: bytes) -> None:
    """Any input is answered or ends the session with one line: no traceback, no hang, no memory growth."""
    tmp_path.chmod(0o777)
    with serving(tmp_path, uid=NOBODY if os.geteuid() == 0 else 0) as server:
        server.write(data)
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.stdout is not None
        out = server.process.stdout.read()
        status = server.process.wait(PATIENCE)
        assert server.process.stderr is not None
        err = server.process.stderr.read()
        server.events()
    assert len(out) <= 30 * wire.MAX_PACKET
    assert status == (1 if err else 0)
    assert not err or (err.startswith(b"pyssh-gateway: sftp: this is not SFTP") and err.count(b"\n") == 1)

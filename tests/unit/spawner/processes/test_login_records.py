"""Login records, as read by the system's own programs."""

import os
import pwd
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.spawner.processes.login_records import (
    Files,
    claim_session,
    line_id,
    record_login,
    record_logout,
)
from pyssh_gateway.system.utmp import MAX_UTMP_BYTES, NARROW, WIDE, layout
from tests.support.waiting import AT_ONCE, PATIENCE

WHEN = 1_700_000_000.25
SIZE = layout(os.uname().machine).utmp.size
BOOT = layout(os.uname().machine).utmp.pack(
    2, 0, b"~", b"~~", b"reboot", b"6.1.0", 0, 0, 0, int(WHEN) - 60, 0, b""
)  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The three files of a new installation: empty, except for the boot in utmp and wtmp."""
    for name in ("utmp", "wtmp"):
        (tmp_path / name).write_bytes(BOOT)
    (tmp_path / "lastlog").touch()
    return Files(*(str(tmp_path / name) for name in ("utmp", "wtmp", "lastlog")))


@pytest.fixture
def locked(files: Files) -> Iterator[None]:
    """Another process has read locks on utmp and wtmp, which any account may take."""
    program = (
        "import fcntl, sys\n"
        "held = [open(path) for path in sys.argv[1:]]\n"
        "for file in held: fcntl.lockf(file, fcntl.LOCK_SH)\n"
        "print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, files.utmp, files.wtmp]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.communicate(timeout=PATIENCE)


def _login(files: Files, tty: str = "/dev/pts/7", peer: str = "192.0.2.9", pid: int = 0, uid: int = 5) -> None:
    when = WHEN
    problems = record_login(
        user="example", uid=uid, pid=pid or os.getpid(), tty=tty, peer=peer, when=when, files=files
    )  # fmt: skip
    assert problems == ()


def _logout(files: Files, tty: str = "/dev/pts/7", pid: int = 0) -> None:
    assert record_logout(pid=pid or os.getpid(), tty=tty, when=WHEN + 90, files=files) == ()


def _program(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    env = {"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C"}
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def _entries(path: str) -> list[tuple[int, int, bytes]]:
    """The type, process and line of each entry in a utmp or wtmp file."""
    content = Path(path).read_bytes()
    assert len(content) % SIZE == 0
    form = layout(os.uname().machine).utmp
    return [(kind, pid, line.rstrip(b"\0")) for kind, pid, line, *_ in form.iter_unpack(content)]


def test_who_shows_a_session_until_it_ends(files: Files) -> None:
    """`who` shows a session until it ends."""
    _login(files)
    line = _program("who", "-u", files.utmp).split()
    assert line[:2] == ["example", "pts/7"]
    assert line[2:5] == ["Nov", "14", "22:13"]
    assert line[-2:] == [str(os.getpid()), "(192.0.2.9)"]
    _logout(files)
    assert _program("who", files.utmp) == ""


def test_last_shows_how_long_a_session_was(files: Files) -> None:
    """`last` shows how long a session was, as it pairs start and end by the line."""
    _login(files)
    assert "22:14" not in _program("last", "-f", files.wtmp)
    _logout(files)
    line = _program("last", "-F", "-f", files.wtmp).splitlines()[0]
    assert line.split()[:3] == ["example", "pts/7", "192.0.2.9"]
    assert "Tue Nov 14 22:13:20 2023 - Tue Nov 14 22:14:50 2023  (00:01)" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may say whose login a process belongs to")
def test_last_knows_a_session_that_lasts(files: Files) -> None:
    """`last` shows "still logged in", for which it asks the kernel whether the process belongs to that login."""
    program = (
        "import sys\n"
        "from pyssh_gateway.spawner.processes.login_records import claim_session\n"
        "print(claim_session(0), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    user = pwd.getpwuid(0).pw_name
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"\n"
        record_login(user=user, uid=0, pid=session.pid, tty="/dev/pts/7", peer="", when=time.time(), files=files)
        shown = _program("last", "-f", files.wtmp)
        session.communicate(timeout=PATIENCE)
    assert "still logged in" in shown.splitlines()[0]


def test_a_kernel_that_does_not_track_logins_is_fine(tmp_path: Path) -> None:
    """No session fails because the kernel lacks loginuid."""
    assert claim_session(0, str(tmp_path / "loginuid")) == ""
    assert claim_session(0, str(tmp_path)) == f"can't write {tmp_path}: Is a directory"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("somewhere", "0.0.0.0"),
        ("", "0.0.0.0"),
    ],
)
def test_utmpdump_reads_every_field(files: Files, peer: str, address: str) -> None:
    """The layout is right for programs compiled elsewhere, and addresses of both families are in their field."""
    _login(files, peer=peer)
    fields = [field.strip() for field in _program("utmpdump", files.wtmp).splitlines()[1].strip("[]").split("] [")]
    assert fields[0] == "7"
    assert int(fields[1]) == os.getpid()
    assert fields[2:7] == ["ts/7", "example", "pts/7", peer, address]
    assert fields[7].startswith("2023-11-14T22:13:20,25")


def test_lastlog_names_the_last_login(files: Files) -> None:
    """lastlog has the login at the account's place, and other entries stay unchanged."""
    _login(files, uid=3)
    _login(files, uid=5, tty="/dev/pts/8")
    form = layout(os.uname().machine).lastlog
    content = Path(files.lastlog).read_bytes()
    assert len(content) == 6 * form.size
    assert form.unpack_from(content, 4 * form.size)[0] == 0
    seconds, line, host = form.unpack_from(content, 5 * form.size)
    assert (seconds, line.rstrip(b"\0"), host.rstrip(b"\0")) == (int(WHEN), b"pts/8", b"192.0.2.9")


def test_a_huge_uid_makes_no_huge_file(files: Files) -> None:
    """A uid in the billions, as from directory services, makes no huge file, though the file is indexed by uid."""
    _login(files, uid=2**31)
    assert Path(files.lastlog).stat().st_size == 0


def test_a_line_has_one_entry(files: Files) -> None:
    """A reused pty reuses its entry, so that utmp does not grow with every login."""
    for tty in ("/dev/pts/7", "/dev/pts/8", "/dev/pts/7"):
        _login(files, tty)
        _logout(files, tty)
    _login(files)
    assert _entries(files.utmp) == [(2, 0, b"~"), (7, os.getpid(), b"pts/7"), (8, os.getpid(), b"pts/8")]
    assert len(_entries(files.wtmp)) == 8


def test_an_entry_with_the_same_id_is_reused(files: Files) -> None:
    """A line with the same id reuses the entry: other programs look entries up by id."""
    _login(files, "/dev/pts/11112")
    _logout(files, "/dev/pts/11112")
    _login(files, "/dev/pts/21112")
    assert [line for _, _, line in _entries(files.utmp)] == [b"~", b"pts/21112"]


def test_the_end_of_a_session_leaves_its_successor_alone(files: Files) -> None:
    """A late logout of a line's earlier session does not end the current session's entry."""
    _login(files, pid=os.getppid())
    _login(files)
    _logout(files, pid=os.getppid())
    assert _entries(files.utmp)[1:] == [(7, os.getpid(), b"pts/7")]
    assert [kind for kind, _, _ in _entries(files.wtmp)] == [2, 7, 7]


def test_an_end_without_a_beginning_adds_no_line(files: Files) -> None:
    """A logout without an entry in utmp, as after a reboot's clean-up, adds none there."""
    _logout(files)
    assert _entries(files.utmp) == [(2, 0, b"~")]
    assert _entries(files.wtmp)[1:] == [(8, os.getpid(), b"pts/7")]


def test_files_that_are_missing_are_not_made(tmp_path: Path) -> None:
    """Missing files are not made, as such a machine does not want them."""
    files = Files(*(str(tmp_path / "none" / name) for name in ("utmp", "wtmp", "lastlog")))
    _login(files)
    _logout(files)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "wtmp").touch()
    _login(Files(str(tmp_path / "utmp"), str(tmp_path / "wtmp"), str(tmp_path / "lastlog")))
    assert [path.name for path in tmp_path.iterdir()] == ["wtmp"]


@pytest.mark.usefixtures("locked")
def test_a_lock_is_not_waited_for(files: Files) -> None:
    """A read lock, which anybody may hold for ever, does not delay the spawner: wtmp is written, utmp is reported."""
    started = time.monotonic()
    problems = record_login(user="u", uid=5, pid=os.getpid(), tty="/dev/pts/7", peer="", when=WHEN, files=files)
    assert time.monotonic() - started < AT_ONCE
    assert problems == (f"can't write a login record: {files.utmp} is locked by another process",)
    assert _entries(files.utmp) == [(2, 0, b"~")]
    assert [kind for kind, _, _ in _entries(files.wtmp)] == [2, 7]


def test_the_lock_is_released(files: Files) -> None:
    """The lock is released, so that other programs can write."""
    _login(files)
    for path in (files.utmp, files.wtmp):
        program = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        subprocess.run([sys.executable, "-c", program, path], check=True, timeout=PATIENCE)


def test_half_an_entry_is_mended(files: Files) -> None:
    """An incomplete entry, as after a power failure, is removed, as it would shift every later entry."""
    for path in (files.utmp, files.wtmp):
        with Path(path).open("ab") as file:
            file.write(b"\7" * 100)
    _login(files)
    for path in (files.utmp, files.wtmp):
        assert [kind for kind, _, _ in _entries(path)] == [2, 7]


def test_long_names_are_cut(files: Files) -> None:
    """Long values are cut to the field's size, and bytes that are not UTF-8 are kept."""
    problems = record_login(
        user="n" * 40 + "\udcff", uid=1, pid=1, tty="/dev/" + "t" * 40, peer="p" * 300, when=WHEN, files=files
    )  # fmt: skip
    assert problems == ()
    assert _entries(files.utmp)[1] == (7, 1, b"t" * 32)
    problems = record_logout(pid=1, tty="/dev/" + "t" * 40, when=WHEN, files=files)
    assert problems == ()
    assert _entries(files.utmp)[1:] == [(8, 1, b"t" * 32)]


def test_no_error_is_raised(tmp_path: Path) -> None:
    """A broken file loses its own record only, without an error for the session or for the other files."""
    (tmp_path / "utmp").mkdir()
    os.mkfifo(tmp_path / "wtmp")
    (tmp_path / "lastlog").touch()
    files = Files(*(str(tmp_path / name) for name in ("utmp", "wtmp", "lastlog")))
    problems = record_login(user="u", uid=1, pid=1, tty="/dev/pts/7", peer="", when=WHEN, files=files)
    assert len(problems) == 2
    assert f"can't write {files.utmp}: Is a directory" in problems
    assert f"can't write {files.wtmp}: No such device or address" in problems
    assert (tmp_path / "lastlog").stat().st_size > 0
    assert len(record_login(user="u", uid=-1, pid=2**40, tty="", peer="", when=-1.0, files=files)) == 3


def test_a_full_disk_is_reported() -> None:
    """Only regular files are written to: a device, such as /dev/full, is refused and reported."""
    files = Files("/dev/full", "/dev/full", "/dev/null")
    problems = record_login(user="u", uid=1, pid=1, tty="/dev/pts/7", peer="", when=WHEN, files=files)
    assert problems == tuple(
        f"can't write a login record: {path} is not a regular file" for path in ("/dev/null", "/dev/full", "/dev/full")
    )


def test_a_utmp_out_of_all_proportion_is_left_alone(files: Files) -> None:
    """A huge utmp is left alone, since the spawner would have to read all of it."""
    os.truncate(files.utmp, MAX_UTMP_BYTES + SIZE)
    problems = record_login(user="u", uid=1, pid=1, tty="/dev/pts/7", peer="", when=WHEN, files=files)
    assert len(problems) == 1
    assert files.utmp in problems[0]


@pytest.mark.parametrize(
    ("line", "key"),
    [(b"pts/7", b"ts/7"), (b"pts/12", b"s/12"), (b"ttyS0", b"S0"), (b"tty1", b"1"), (b"tty", b"tty"), (b"", b"")],
)
def test_ids_are_sshds(line: bytes, key: bytes) -> None:
    """Line ids are those of sshd and login(1) (line_abbrevname)."""
    assert line_id(line) == key


def test_the_layouts_are_glibcs() -> None:
    """The layouts are those of bits/utmp.h: 64-bit times on some machines, and x86's narrow layout on all others."""
    assert (NARROW.utmp.size, NARROW.lastlog.size) == (384, 292)
    assert (WIDE.utmp.size, WIDE.lastlog.size) == (400, 296)
    assert WIDE.utmp.size == struct.calcsize("@hi32s4s32s256shhlll16s20x0l") or struct.calcsize("l") == 4
    assert layout("x86_64") is layout("riscv64") is layout("i686") is NARROW
    assert layout("aarch64") is (WIDE if struct.calcsize("P") == 8 else NARROW)

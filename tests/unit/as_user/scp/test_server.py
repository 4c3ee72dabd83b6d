"""The remote side of `scp -O`: with the real client in both directions, and with peers that break the protocol."""

import hashlib
import os
import pwd
import shutil
from pathlib import Path

import pytest

from tests.support.scp import far_side, scp, talk

SPARE = 1_600_000_000
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The remote home directory."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """The local directory."""
    path = tmp_path / "near"
    path.mkdir()
    return path


@pytest.fixture
def far(tmp_path: Path, home: Path) -> Path:
    """The program that replaces ssh."""
    return far_side(tmp_path, home)


def _tree(path: Path) -> Path:
    """A tree with odd names, modes and times."""
    (path / "inner" / "empty").mkdir(parents=True)
    for name in ("plain", "with space", "-dash", "~", "a*b", "ümlaut", "inner/x;y", "inner/'q\"", "inner/.hidden"):
        (path / name).write_text(name)
    (path / os.fsdecode(b"\xff\xfe")).write_bytes(b"\xff")
    (path / "nothing").touch()
    (path / "plain").chmod(0o751)
    (path / "inner").chmod(0o555)
    for found in sorted(path.rglob("*"), reverse=True):
        os.utime(found, (SPARE, SPARE + len(found.name)))
    return path


def _listing(path: Path, *, exact: bool) -> dict[bytes, tuple[object, ...]]:
    """The entries below `path`: types and contents, and with `exact` also modes and times."""
    found = {}
    for entry in path.rglob("*"):
        state = entry.stat()
        facts: tuple[object, ...] = (entry.read_bytes() if entry.is_file() else None,)
        if exact:
            facts += (oct(state.st_mode), int(state.st_mtime))
        found[os.fsencode(entry.relative_to(path))] = facts
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ok(program: Path, *arguments: str | bytes | Path) -> None:
    done = scp(program, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("keep", [True, False])
def test_trees_go_there_and_back(far: Path, home: Path, near: Path, keep: bool) -> None:
    """Trees keep names and contents in both directions, and with -p also modes and times."""
    tree = _tree(near / "tree")
    flags = ["-rp"] if keep else ["-r"]
    _ok(far, *flags, tree, "host:copy")
    assert _listing(home / "copy", exact=keep) == _listing(tree, exact=keep)
    _ok(far, *flags, "host:copy", near / "back")
    assert _listing(near / "back", exact=keep) == _listing(tree, exact=keep)
    _ok(far, *flags, tree, "host:copy")
    assert _listing(home / "copy" / "tree", exact=keep) == _listing(tree, exact=keep)


@pytest.mark.parametrize("size", [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 100 * 1024 * 1024 + 7])
def test_contents_are_exact(far: Path, home: Path, near: Path, size: int) -> None:
    """Contents arrive unchanged for sizes around a buffer's, and far above the memory that the server may use."""
    block = os.urandom(1024 * 1024)
    with (near / "data").open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
    _ok(far, near / "data", "host:")
    _ok(far, "host:data", near / "back")
    assert _digest(near / "data") == _digest(home / "data") == _digest(near / "back")


def test_new_files_get_the_umasks_mode(far: Path, home: Path, near: Path) -> None:
    """Without -p a new file gets the sender's mode minus the umask, and an existing file keeps its mode."""
    source = near / "file"
    source.write_text("new")
    source.chmod(0o666)
    _ok(far, source, "host:a")
    assert (home / "a").stat().st_mode & 0o7777 == 0o644
    source.chmod(0o444)
    _ok(far, source, "host:b")
    assert (home / "b").stat().st_mode & 0o7777 == 0o444
    (home / "a").chmod(0o600)
    (home / "a").write_text("longer than it will be")
    _ok(far, source, "host:a")
    assert (home / "a").stat().st_mode & 0o7777 == 0o600
    assert (home / "a").read_text() == "new"
    _ok(far, "-p", source, "host:a")
    assert (home / "a").stat().st_mode & 0o7777 == 0o444


def test_patterns_and_quotes_mean_what_they_mean_to_a_shell(far: Path, home: Path, near: Path) -> None:
    """Patterns like `host:*.log`, and quotes around names with blanks or stars, work as in a shell."""
    for name in ("a.log", "b.log", ".c.log", "a b", "*", "[x]"):
        (home / name).write_text(name)
    _ok(far, "host:*.log", near)
    assert sorted(os.listdir(near)) == ["a.log", "b.log"]  # noqa: PTH208 - names alone
    _ok(far, "host:[x]", near)
    _ok(far, f"host:{home}/a\\ b", near / "second")
    assert (near / "second").read_text() == "a b"
    assert (near / "[x]").read_text() == "[x]"
    _ok(far, near / "second", "host:'new name'")
    assert (home / "new name").read_text() == "a b"
    status, output, _ = talk(far, b"scp -f '*'", b"\0\0\0")
    assert (status, output) == (0, b"C0644 1 *\n*\0")
    (home / "dir-1").mkdir()
    _ok(far, near / "second", "host:dir-*")
    assert (home / "dir-1" / "second").exists()


def test_a_tilde_is_the_home_directory(far: Path, home: Path) -> None:
    """`host:~/x` names a file in the account's home, which comes from its passwd entry and not from a variable."""
    own = pwd.getpwuid(os.getuid()).pw_dir
    status, output, _ = talk(far, b"scp -f ~/no-such-file", b"\0")
    assert status == 1
    assert output == f"\1scp: {own}/no-such-file: No such file or directory\n".encode()
    _, output, _ = talk(far, b"scp -f ~nobody-of-that-name/x", b"\0")
    assert b"scp: ~nobody-of-that-name/x: No such file" in output
    (home / "~").write_text("x")
    status, output, _ = talk(far, b"scp -f '~'", b"\0\0\0")
    assert (status, output) == (0, b"C0644 1 ~\nx\0")


def test_newlines_in_names_do_not_break_the_protocol(far: Path, home: Path, near: Path) -> None:
    """A record is one line, so a newline in a name is escaped as scp does it, and the other files arrive unchanged."""
    tree = near / "tree"
    tree.mkdir()
    (tree / "a\nC0644 0 b\\").write_text("content")
    (tree / "z").write_text("z")
    _ok(far, "-r", tree, "host:")
    assert sorted(path.name for path in (home / "tree").iterdir()) == ["a\\^JC0644 0 b\\\\", "z"]
    shutil.copytree(tree, home / "other")
    _ok(far, "-r", "host:other", near)
    assert _listing(near / "other", exact=False) == _listing(home / "tree", exact=False)
    status, output, _ = talk(far, b"scp -f 'a\nb'", b"\0")
    assert (status, output) == (1, b"\1scp: a?b: No such file or directory\n")


def test_what_can_not_be_sent_is_told_and_the_rest_is_sent(far: Path, home: Path, near: Path) -> None:
    """A file that can't be sent is reported, and does not stop the other files."""
    (home / "good").write_text("good")
    (home / "directory").mkdir()
    os.mkfifo(home / "fifo")
    done = scp(far, "host:missing", "host:directory", "host:fifo", "host:good", near)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        b"scp: missing: No such file or directory",
        b"scp: directory: not a regular file",
        b"scp: fifo: not a regular file",
    ]
    assert (near / "good").read_text() == "good"


def test_what_can_not_be_written_is_told(far: Path, home: Path, near: Path) -> None:
    """The error names the remote file and the reason, and the client fails."""
    tree = _tree(near / "tree")
    (home / "tree").mkdir()
    (home / "tree" / "plain").mkdir()
    (home / "tree" / "inner").write_text("in the way")
    done = scp(far, "-r", tree, "host:")
    assert done.returncode == 1
    assert sorted(done.stderr.splitlines()) == [
        b"scp: ./tree/inner: Not a directory",
        b"scp: ./tree/plain: Is a directory",
    ]
    assert (home / "tree" / "with space").read_text() == "with space"
    (home / "file").write_text("")
    (near / "f").write_text("")
    done = scp(far, near / "f", near / "f", "host:file")
    assert (done.returncode, done.stderr) == (1, b"scp: file: Not a directory\n")
    done = scp(far, near / "f", "host:no/such/place")
    assert (done.returncode, done.stderr) == (1, b"scp: no/such/place: No such file or directory\n")


@AS_ROOT
def test_the_accounts_rights_hold(tmp_path: Path, account: pwd.struct_passwd, home: Path, near: Path) -> None:
    """The server becomes the user before it handles a name, so it can't do anything that the user may not do."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    far = far_side(tmp_path, home, uid=account.pw_uid)
    (home / "secret").write_text("secret")
    (home / "secret").chmod(0o600)
    (home / "closed").mkdir(0o700)
    done = scp(far, "-r", "host:secret", "host:closed", "host:/etc/shadow", near)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        b"scp: secret: Permission denied",
        b"scp: closed: Permission denied",
        b"scp: /etc/shadow: Permission denied",
    ]
    (near / "new").write_text("x")
    done = scp(far, near / "new", "host:")
    assert (done.returncode, done.stderr) == (1, b"scp: ./new: Permission denied\n")
    os.chown(home, account.pw_uid, account.pw_gid)
    _ok(far, near / "new", "host:")
    assert (home / "new").stat().st_uid == account.pw_uid


def test_a_file_that_does_not_fit_is_told_once(tmp_path: Path, home: Path, near: Path) -> None:
    """When the disk is full in the middle of a file, that is reported once, and the next file still arrives."""
    far = far_side(tmp_path, home, file_size=1 << 20)
    (near / "big").write_bytes(bytes(5 << 20))
    (near / "small").write_text("small")
    done = scp(far, near / "big", near / "small", "host:")
    assert (done.returncode, done.stderr) == (1, b"scp: ./big: File too large\n")
    assert (home / "small").read_text() == "small"


def test_a_file_that_gets_shorter_is_told(far: Path) -> None:
    """The peer gets as many bytes as were announced, and an error that says that the file was shorter."""
    path = "/sys/kernel/mm/transparent_hugepage/enabled"  # such files claim the size of a page, and contain less
    if not Path(path).exists():
        pytest.skip(f"there is no {path}")
    status, output, _ = talk(far, b"scp -f " + path.encode(), b"\0\0\0")
    head, _, rest = output.partition(b"\n")
    assert head.endswith(b" 4096 enabled")
    assert rest[4096:] == f"\1scp: {path}: Input/output error\n".encode()
    assert rest[:4096].endswith(b"\0")
    assert status == 1


def test_links_are_followed(far: Path, home: Path, near: Path) -> None:
    """As in scp, a link's content is sent, and a dangling link is an error."""
    (home / "tree").mkdir()
    (home / "tree" / "link").symlink_to("/etc/hostname")
    (home / "tree" / "dangling").symlink_to("nowhere")
    done = scp(far, "-r", "host:tree", near)
    assert (done.returncode, done.stderr) == (1, b"scp: tree/dangling: No such file or directory\n")
    assert (near / "tree" / "link").read_bytes() == Path("/etc/hostname").read_bytes()


def test_deep_trees_are_copied(tmp_path: Path, home: Path, near: Path) -> None:
    """The peer decides how deep a tree is: the path's length must be the only limit, and not the server's stack."""
    far = far_side(tmp_path, home, memory=16 * 1024)
    depth = 300
    at = near
    for _ in range(depth):
        at /= "d"
    at.mkdir(parents=True)
    (at / "leaf").write_text("leaf")
    _ok(far, "-r", near / "d", "host:")
    _ok(far, "-r", "host:d", near / "back")
    assert sum(len(files) for _, _, files in os.walk(near / "back")) == 1
    status, output, _ = talk(far, b"scp -r -t .", b"D0755 0 d\n" * 5000)
    assert output.count(b"\0") > 2000
    assert b"File name too long" in output
    assert status == 1
    _remove_deep(home / "d")
    _remove_deep(near / "back")
    _remove_deep(near / "d")


def _remove_deep(path: Path) -> None:
    # shutil.rmtree is recursive, and would exceed Python's limit; find does not.
    os.spawnlp(os.P_WAIT, "find", "find", str(path), "-delete")


def test_details_go_to_standard_error(far: Path, home: Path, near: Path) -> None:
    """With -v the user sees the records of both sides, as with scp."""
    (near / "f").write_text("x")
    done = scp(far, "-v", near / "f", "host:")
    assert b"\nSink: C0644 1 f\n" in done.stderr
    done = scp(far, "-v", "host:f", near / "g")
    assert b"Sending file modes: C0644 1 f\n" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"C0644 1 ../up\nx\0", b"error: unexpected filename: ../up"),
        (b"C0644 1 /tmp/up\nx\0", b"error: unexpected filename: /tmp/up"),
        (b"C0644 1 a/up\nx\0", b"error: unexpected filename: a/up"),
        (b"C0644 1 ..\nx\0", b"error: unexpected filename: .."),
        (b"C0644 1 .\nx\0", b"error: unexpected filename: ."),
        (b"C0644 1 \nx\0", b"error: unexpected filename: "),
        (b"C0644 1 a\0b\nx\0", b"error: unexpected filename: a\0b"),
        (b"D0755 0 ..\nC0644 1 up\nx\0", b"error: unexpected filename: .."),
        (b"D0755 0 in\nD0755 0 ..\nC0644 1 up\nx\0", b"error: unexpected filename: .."),
        (b"C644 1 up\nx\0", b"protocol error: expected control record"),
        (b"C0888 1 up\nx\0", b"protocol error: expected control record"),
        (b"C0644 -1 up\nx\0", b"protocol error: expected control record"),
        (b"C0644 9223372036854775808 up\nx\0", b"protocol error: size out of range"),
        (b"C0644 " + b"9" * 30 + b" up\nx\0", b"protocol error: expected control record"),
        (b"T1 0 1\nC0644 1 up\nx\0", b"protocol error: times not delimited"),
        (b"\n", b"protocol error: unexpected <newline>"),
        (b"C0644 1 " + b"u" * 20_000 + b"\n", b"protocol error: record too long"),
        (b"C" * 20_000, b"protocol error: record too long"),
        (b"C0644 1", b"protocol error: lost connection"),
        (b"Welcome to this machine\n", b"Welcome to this machine"),
        (b"\1scp: x: gone\nZ\n", b"protocol error: expected control record"),
    ],
)
def test_a_peer_that_breaks_the_rules_gets_nowhere(home: Path, far: Path, sent: bytes, message: bytes) -> None:
    """Bad names, bad numbers and endless lines are reported and end the transfer, and no file is made."""
    status, output, _ = talk(far, b"scp -r -t .", sent)
    assert status == 1
    assert output.endswith(b"\1scp: " + message + b"\n")
    assert [path for path in home.parent.rglob("*") if path.name == "up"] == []


def test_a_directory_has_to_be_asked_for(far: Path, home: Path) -> None:
    """Without -r only files are accepted; with -d the target must be a directory."""
    status, output, _ = talk(far, b"scp -t .", b"D0755 0 d\n")
    assert (status, output) == (1, b"\0\1scp: protocol error: received directory without -r\n")
    assert list(home.iterdir()) == []
    status, output, _ = talk(far, b"scp -d -t missing", b"")
    assert (status, output) == (1, b"\1scp: missing: No such file or directory\n")
    (home / "a").touch()
    (home / "b").touch()
    status, output, _ = talk(far, b"scp -t *", b"")
    assert (status, output) == (1, b"\1scp: ambiguous target\n")


def test_a_copy_that_is_cut_off_fails(far: Path, home: Path) -> None:
    """The copy fails if the client leaves in mid-file or before an answer; sending no record at all is no error."""
    status, output, _ = talk(far, b"scp -t .", b"C0644 10 f\nhalf")
    assert (status, output) == (1, b"\0\0\1scp: dropped connection\n")
    assert (home / "f").read_text() == "half"
    assert talk(far, b"scp -t .", b"") == (0, b"\0", b"")
    assert talk(far, b"scp -f f", b"")[0] == 1
    assert talk(far, b"scp -f f", b"\2scp: enough\n")[:2] == (1, b"")


def test_errors_on_the_senders_side_are_counted(far: Path, home: Path) -> None:
    """The exit status must show errors that the sender reports: the client has no other sign of them."""
    sent = b"\1scp: x: Permission denied\nC0644 2 f\nab\1scp: f: Input/output error\n"
    assert talk(far, b"scp -t .", sent) == (1, b"\0\0\0", b"")
    assert (home / "f").read_text() == "ab"
    assert talk(far, b"scp -t .", b"\2scp: enough\nC0644 0 g\n\0")[0] == 1
    assert not (home / "g").exists()


def test_times_out_of_any_calendar_are_left_out(far: Path, home: Path) -> None:
    """A file with an impossible time stamp is still copied, without that time."""
    sent = b"T99999999999999999999 0 1 0\nC0644 1 f\nx\0T1234 5 678 9\nC0644 1 g\nx\0C0644 1 h\nx\0"
    assert talk(far, b"scp -p -t .", sent)[0] == 0
    assert (home / "f").stat().st_mtime > SPARE
    assert (home / "g").stat().st_mtime_ns == 1234_000_005_000
    assert (home / "g").stat().st_atime_ns == 678_000_009_000
    assert (home / "h").stat().st_mtime > SPARE


def test_long_errors_stay_one_line_that_the_client_takes_whole(far: Path) -> None:
    """scp reads 2048 bytes of an error and would take the rest for answers, so long names are cut; the reason stays."""
    status, output, _ = talk(far, b"scp -f " + b"x/" * 1500 + b"y", b"\0")
    assert status == 1
    assert len(output) < 2048
    assert output.endswith(b"/y: No such file or directory\n")


def test_a_refused_file_is_skipped(far: Path, home: Path) -> None:
    """After an error from the peer the next file follows, and a directory that the peer refused is not entered."""
    (home / "d").mkdir()
    (home / "d" / "inner").write_text("x")
    (home / "f").write_text("x")
    status, output, _ = talk(far, b"scp -r -f d f", b"\0\1no\n\1no\n")
    assert (status, output) == (1, b"D0755 0 d\nC0644 1 f\n")

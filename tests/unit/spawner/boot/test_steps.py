"""The boot steps, on the real file system and with the machine's own programs: done once, and never too much."""

import grp
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.config.types import Account, Boot, Directory, Link
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.boot import accounts as boot_accounts
from pyssh_gateway.spawner.boot import homes as boot_homes
from pyssh_gateway.spawner.boot import programs
from pyssh_gateway.spawner.boot import steps as boot
from pyssh_gateway.spawner.boot.accounts import FIRST_UID, SUDOERS, make_account
from pyssh_gateway.spawner.boot.homes import HOME_MODE
from pyssh_gateway.spawner.boot.progress import Step
from pyssh_gateway.spawner.boot.steps import NEEDS_ROOT, OK, UNCHANGED, make_directory, make_link
from pyssh_gateway.spawner.child import Setup
from tests.support.boot import remove, volume
from tests.support.waiting import PATIENCE

IS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root makes the machine ready")
needs_sudo = pytest.mark.skipif(not SUDOERS.is_dir(), reason="no sudo on this machine")

USERS = USER, OTHER = "pyssh-boot.one", "pyssh-boot-two"
GROUP = "pyssh-boot-group"


def steps(wanted: Boot, *logins: str) -> list[Step]:
    """The results of all steps of `wanted`, done in this process."""
    done: list[Step] = []
    boot.perform(wanted, frozenset(logins), done.append)
    return done


@pytest.fixture
def homes() -> Iterator[Path]:
    """A directory for homes that everybody can enter; the tests' accounts are removed before and after."""
    with volume("homes", USERS, GROUP) as directory:
        yield directory


# -- links ---------------------------------------------------------------------------------------------------------


@needs_root
def test_a_link_is_made_with_its_target_once(tmp_path: Path) -> None:
    """Protects /var/lib/docker on a new volume: link and directory are made, and the next boot changes nothing."""
    link = Link(path=str(tmp_path / "lib/docker"), target=str(tmp_path / "data/docker"))
    assert make_link(link) == OK
    assert (tmp_path / "lib/docker").readlink() == tmp_path / "data/docker"
    assert stat.S_IMODE((tmp_path / "data/docker").stat().st_mode) == 0o755
    assert make_link(link) == UNCHANGED
    (tmp_path / "data/docker").rmdir()
    assert make_link(link) == OK
    assert (tmp_path / "data/docker").is_dir()


@needs_root
@pytest.mark.parametrize("what", ["empty directory", "dangling link"])
def test_what_is_nothing_gives_way(tmp_path: Path, what: str) -> None:
    """Protects an image whose packages made an empty directory, and a volume that was emptied: the link is made."""
    path, target = tmp_path / "path", tmp_path / "target"
    if what == "empty directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "gone")
    assert make_link(Link(path=str(path), target=str(target))) == OK
    assert path.readlink() == target


@needs_root
def test_what_is_somebodys_stays(tmp_path: Path) -> None:
    """Protects files: a non-empty directory, a file and another link stay, and the outcome says why."""
    full, file, link, target = (tmp_path / name for name in ("full", "file", "link", "target"))
    full.mkdir()
    (full / "precious").touch()
    file.write_text("precious")
    link.symlink_to(full)
    for path, said in ((full, "move what is in it"), (file, "a file in its place"), (link, f"a link to {full}")):
        assert said in make_link(Link(path=str(path), target=str(target)))
    assert (full / "precious").exists()
    assert file.read_text() == "precious"
    assert link.readlink() == full
    assert "is no directory" in make_link(Link(path=str(tmp_path / "new"), target=str(file)))
    assert make_link(Link(path=str(full), target=str(full))) == "path and target are the same"


# -- directories ---------------------------------------------------------------------------------------------------


@needs_root
def test_a_directory_is_made_or_corrected(tmp_path: Path) -> None:
    """Protects owner and mode, including set-group-ID; directories above it belong to root."""
    path = tmp_path / "a/b"
    wanted = Directory(path=str(path), owner="nobody", mode="2750")
    assert make_directory(wanted) == OK
    assert make_directory(wanted) == UNCHANGED
    path.chmod(0o777)
    os.chown(path, 0, 0)
    assert make_directory(wanted) == OK
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (NOBODY.pw_uid, NOBODY.pw_gid, 0o2750)
    above = path.parent.stat()
    assert (above.st_uid, stat.S_IMODE(above.st_mode)) == (0, 0o755)
    assert "no account" in make_directory(Directory(path=str(path), owner="no-such-user"))


@needs_root
@pytest.mark.parametrize("where", ["path", "above", "dots"])
def test_root_follows_nobodys_links(tmp_path: Path, where: str) -> None:
    """Protects root's files: an account's link must not lead a step to /etc or elsewhere."""
    theirs, secret = tmp_path / "theirs", tmp_path / "secret"
    secret.mkdir(mode=0o700)
    theirs.mkdir()
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    (theirs / "link").symlink_to("../secret" if where == "dots" else secret)
    path = theirs / "link" if where == "path" else theirs / "link/below"
    done = steps(
        Boot(
            directory=(Directory(path=str(path), owner="nobody", mode="0777"),),
            link=(
                Link(path=str(path / "x"), target=str(tmp_path / "t")),
                Link(path="/nonexistent/x", target=str(path)),
            ),
        )
    )
    assert len(done) == 3
    assert all("a link in a directory that others can write to" in step.outcome for step in done), done
    assert (secret.stat().st_uid, list(secret.iterdir())) == (0, [])
    assert not Path("/nonexistent").exists()


@needs_root
def test_roots_own_links_are_followed(tmp_path: Path) -> None:
    """Protects links of root, such as /var/run, /home -> /data/home and the configured ones, also relative ones."""
    (tmp_path / "data").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("../data/./run")
    (tmp_path / "home").symlink_to(tmp_path / "data")
    assert make_directory(Directory(path=str(tmp_path / "var/run/x"), mode="0700")) == OK
    assert make_directory(Directory(path=str(tmp_path / "home/run/x"), mode="0700")) == UNCHANGED
    assert (tmp_path / "data/run/x").is_dir()
    (tmp_path / "loop").symlink_to("loop")
    assert "too many" in boot._outcome(make_directory, Directory(path=str(tmp_path / "loop")))  # noqa: SLF001 - the step alone, without a process


# -- accounts ------------------------------------------------------------------------------------------------------


@needs_root
def test_an_account_is_made_whole(homes: Path) -> None:
    """Protects the first login: the account gets shell, groups (made if missing), and a home with /etc/skel's files."""
    account = Account(user=USER, shell="/bin/sh", groups=(GROUP, "tty"), home=str(homes / "deep/one"))
    assert make_account(account, (account,)) == OK
    entry = pwd.getpwnam(USER)
    assert (entry.pw_shell, entry.pw_dir) == ("/bin/sh", str(homes / "deep/one"))
    assert entry.pw_uid >= FIRST_UID
    assert grp.getgrgid(entry.pw_gid).gr_name == USER
    groups = {grp.getgrgid(group).gr_name for group in os.getgrouplist(USER, entry.pw_gid)}
    assert groups == {USER, GROUP, "tty"}
    home = homes / "deep/one"
    assert stat.S_IMODE(home.stat().st_mode) == HOME_MODE
    for name in [".", *(path.name for path in Path("/etc/skel").iterdir())]:
        found = (home / name).lstat()
        assert (found.st_uid, found.st_gid) == (entry.pw_uid, entry.pw_gid), name
    assert make_account(account, (account,)) == UNCHANGED


@needs_root
def test_the_homes_of_logins_are_on_the_volume(homes: Path) -> None:
    """One setting moves the home of an image's account with its files, which belong to the account.

    A new container has the image's account again, and uses the existing home unchanged.
    """
    image = Account(user=USER, home=str(homes / "image/one"))
    assert make_account(image, (image,)) == OK
    (homes / "image/one/.profile").write_text("of the image")
    wanted = Boot(homes=str(homes / "volume"))
    step = f"home {homes}/volume/{USER}"
    assert [(each.step, each.outcome, each.account) for each in steps(wanted, USER, "root")] == [(step, OK, USER)]
    entry = pwd.getpwnam(USER)
    assert entry.pw_dir == str(homes / "volume" / USER)
    home = Path(entry.pw_dir)
    assert (home / ".profile").read_text() == "of the image"
    assert {path.stat().st_uid for path in (home, home / ".profile")} == {entry.pw_uid}
    assert stat.S_IMODE(home.stat().st_mode) == HOME_MODE
    assert [each.outcome for each in steps(wanted, USER)] == [UNCHANGED]
    (home / ".profile").write_text("of the person")
    programs.run("usermod", "--home", str(homes / "image/one"), USER)  # as in a new container
    assert [each.outcome for each in steps(wanted, USER)] == [OK]
    assert pwd.getpwnam(USER).pw_dir == str(home)
    assert (home / ".profile").read_text() == "of the person"
    assert pwd.getpwnam("root").pw_dir == "/root"


def test_a_login_waits_until_its_home_is_there() -> None:
    """Protects a login from a home that is still being moved; root, whose home stays, does not wait."""
    booting = boot.begin(Boot(homes="/nonexistent/homes"), frozenset({"root", "no-such-user"}))
    assert booting is not None
    assert booting.accounts == {"no-such-user"}
    step = booting.read()
    assert step is not None
    assert (step.step, step.account) == ("home /nonexistent/homes/no-such-user", "no-such-user")
    assert booting.read() is None
    assert os.waitpid(booting.pid, 0)[1] == 0


@needs_root
def test_an_account_is_moved_to_the_home_that_is_asked_for(homes: Path) -> None:
    """`boot.account` with another home than the account's moves the account to it."""
    before, after = (Account(user=USER, home=str(homes / name)) for name in ("before", "after"))
    assert make_account(before, (before,)) == OK
    assert make_account(after, (after,)) == OK
    assert pwd.getpwnam(USER).pw_dir == after.home
    assert make_account(after, (after,)) == UNCHANGED


@needs_root
def test_a_home_of_somebody_else_is_nobodys(homes: Path) -> None:
    """A home on the volume that belongs to another uid is not given away, and the account keeps its own."""
    image = Account(user=USER, home=str(homes / "one"))
    assert make_account(image, (image,)) == OK
    (homes / "volume" / USER).mkdir(parents=True)
    (homes / "volume" / USER / "file").touch()
    os.chown(homes / "volume" / USER, 4321, 4321)
    (step,) = steps(Boot(homes=str(homes / "volume")), USER)
    assert step.outcome == f"its home {homes}/volume/{USER} belongs to uid 4321"
    assert pwd.getpwnam(USER).pw_dir == str(homes / "one")


@needs_root
def test_accounts_that_are_made_have_their_homes_there_too(homes: Path) -> None:
    """`boot.homes` is where `boot.account` makes the home of an account without a configured one."""
    wanted = Boot(homes=str(homes), account=(Account(user=USER),))
    assert [(each.step, each.outcome) for each in steps(wanted, USER)] == [(f"account {USER}", OK)]
    assert pwd.getpwnam(USER).pw_dir == str(homes / USER)


@needs_root
def test_an_account_gets_the_numbers_of_its_home(homes: Path) -> None:
    """Protects files on a volume from a new root file system: accounts get the uids of their existing homes."""
    one, two = homes / "one", homes / "two"
    for home, number in ((two, 1234), (one, 4321)):
        home.mkdir()
        (home / "file").touch()
        os.chown(home, number, number + 1)
    # The home of an account that is gone, with the uid that would be free next.
    abandoned = homes / "abandoned"
    abandoned.mkdir()
    free = boot_accounts._free_number({str(one)})  # noqa: SLF001 - too many accounts to make
    os.chown(abandoned, free, free)
    accounts = (Account(user=OTHER, home=str(homes / "new")), Account(user=USER, home=str(one)))
    for account in accounts:
        assert make_account(account, accounts) == OK
    entry = pwd.getpwnam(USER)
    assert (entry.pw_uid, entry.pw_gid) == (4321, 4322)
    assert pwd.getpwnam(OTHER).pw_uid not in {free, 1234, 4321}
    assert [path.name for path in one.iterdir()] == ["file"]


@needs_root
def test_numbers_that_are_taken_are_not_given_twice(homes: Path) -> None:
    """Protects root and others: an account does not get their uid because its home belongs to them."""
    for owner in (0, NOBODY.pw_uid):
        home = homes / f"home{owner}"
        home.mkdir()
        (home / "file").touch()
        os.chown(home, owner, owner)
        account = Account(user=USER, home=str(home))
        assert make_account(account, (account,)) == f"its home {home} belongs to uid {owner}"
        assert pwd.getpwnam(USER).pw_uid not in {0, NOBODY.pw_uid}
        assert home.stat().st_uid == owner
        remove(USERS, GROUP)


@needs_root
@needs_sudo
def test_sudo_is_given_and_taken(homes: Path) -> None:
    """Protects root: the sudo rule is valid and only root's, and is removed when the configuration drops it."""
    account = Account(user=USER, home=str(homes / "one"), sudo=True)
    assert make_account(account, (account,)) == OK
    rule = SUDOERS / "90-pyssh-gateway-pyssh-boot,one"
    assert (rule.stat().st_uid, stat.S_IMODE(rule.stat().st_mode)) == (0, 0o440)
    may = ["sudo", "-n", "id", "-u"]
    as_user = subprocess.run(
        may, capture_output=True, text=True, user=USER, extra_groups=[], timeout=PATIENCE, check=False
    )
    assert as_user.stdout == "0\n", as_user.stderr
    assert make_account(account, (account,)) == UNCHANGED
    without = Account(user=USER, home=str(homes / "one"))
    assert make_account(without, (without,)) == OK
    assert not rule.exists()
    assert [path.name for path in SUDOERS.iterdir() if "pyssh-boot,one" in path.name] == []


@needs_root
def test_what_is_wrong_is_said_and_the_rest_is_done(homes: Path) -> None:
    """Protects the login: a failing group or a missing shell is reported, and the account is still made."""
    account = Account(user=USER, shell="/bin/no-such-shell", groups=("bad:group",), home=str(homes / "one"))
    outcome = make_account(account, (account,))
    assert "groupadd" in outcome
    assert "its shell /bin/no-such-shell is not on this machine" in outcome
    assert (homes / "one").is_dir()


@needs_root
def test_without_useradd_it_is_said(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects people whose image lacks useradd: the outcome says that it is missing."""
    monkeypatch.setattr(programs, "_ENVIRONMENT", {"PATH": "/nonexistent"})
    account = Account(user=USER, home=str(homes / "one"))
    assert make_account(account, (account,)) == "there is no useradd on this machine: install it"


# -- all steps -----------------------------------------------------------------------------------------------------


@needs_root
def test_what_somebody_may_wait_for_comes_first(homes: Path) -> None:
    """Protects the first login: login accounts are made before others, and directories of new accounts come last."""
    wanted = Boot(
        link=(Link(path=str(homes / "link"), target=str(homes / "data")),),
        directory=(
            Directory(path=str(homes / "theirs"), owner=USER, mode="0700"),
            Directory(path=str(homes / "roots")),
        ),
        account=(Account(user=OTHER, home=str(homes / "link/two")), Account(user=USER, home=str(homes / "one"))),
    )
    done = steps(wanted, USER)
    assert [(step.step, step.outcome, step.account) for step in done] == [
        (f"link {homes}/link -> {homes}/data", OK, ""),
        (f"directory {homes}/roots", OK, ""),
        (f"account {USER}", OK, USER),
        (f"account {OTHER}", OK, OTHER),
        (f"directory {homes}/theirs", OK, ""),
    ]
    assert (homes / "data/two").owner() == OTHER
    assert {step.outcome for step in steps(wanted, USER)} == {UNCHANGED}


def test_a_process_of_its_own_does_it_and_tells() -> None:
    """Protects logins from waiting: steps run in their own process; each is reported, and so is the end."""
    assert boot.begin(Boot(), frozenset()) is None
    wanted = Boot(
        directory=(Directory(path="/", owner="no-such-user"),), account=(Account(user="root", shell="/bin/sh"),)
    )
    booting = boot.begin(wanted, frozenset())
    assert booting is not None
    assert booting.accounts == {"root"}
    told = []
    while (step := booting.read()) is not None:
        told.append(step)
    assert [step.step for step in told] == (
        ["account root", "directory /"] if IS_ROOT else ["directory /", "account root"]
    )
    assert booting.accounts == set()
    assert os.waitpid(booting.pid, 0)[1] == 0


@pytest.mark.skipif(IS_ROOT, reason="root can do it all")
def test_without_root_it_is_said() -> None:
    """Protects a person who tries it without root: nothing changes, and each step says what it needs."""
    done = steps(Boot(link=(Link(path="/tmp/x", target="/tmp/y"),), account=(Account(user="nobody"),)))
    assert {step.outcome for step in done} == {NEEDS_ROOT}
    assert not Path("/tmp/x").is_symlink()


def test_a_copy_that_is_stopped_holds_up_no_boot() -> None:
    """Protects accounts that come later: a copy, which its account may stop, is only waited for up to a deadline."""

    def stops() -> int:
        os.kill(os.getpid(), signal.SIGSTOP)
        return 0

    pid = child.start(Setup(), stops)
    assert not boot_homes.ended_well(pid, 0.05)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)

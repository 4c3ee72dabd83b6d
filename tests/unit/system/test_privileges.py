"""Rights that are given up are gone, according to the kernel."""

import errno
import os
import pwd
import sys
from pathlib import Path

import pytest

from pyssh_gateway.system import libc, privileges
from tests.support.locked_in import errno_of, in_child

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")

NOBODY = pwd.getpwnam("nobody")


def status(*fields: str) -> dict[str, str]:
    """Fields of this process's status (proc(5))."""
    lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {field: lines[field] for field in fields}


@needs_root
def test_become_is_for_good() -> None:
    """No id is left that would lead back, and `become` fails if it can't change them."""

    def work() -> object:
        privileges.become(NOBODY.pw_uid, NOBODY.pw_gid)
        ids = os.getresuid() == (NOBODY.pw_uid,) * 3 and os.getresgid() == (NOBODY.pw_gid,) * 3
        back = errno_of(lambda: os.setuid(0))
        other = errno_of(lambda: privileges.become(NOBODY.pw_uid + 1, NOBODY.pw_gid))
        return ids, back, other

    assert in_child(work) == (f"(True, {errno.EPERM}, {errno.EPERM})", 0)


@needs_root
def test_no_capability_is_left() -> None:
    """No set has a capability, and neither can programs of root regain one: the bounding set is empty, too."""

    def work() -> object:
        privileges.empty_bounding_set()
        privileges.drop_capabilities()
        return set(status("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb").values())

    assert in_child(work) == (f"{{'{'0' * 16}'}}", 0)


@needs_root
def test_the_bounding_set_is_roots_to_empty() -> None:
    """Without root it fails, and the caller decides what follows."""

    def work() -> object:
        privileges.become(NOBODY.pw_uid, NOBODY.pw_gid)
        return errno_of(privileges.empty_bounding_set)

    assert in_child(work) == (str(errno.EPERM), 0)


def test_setuid_programs_give_nothing() -> None:
    """no_new_privs is set, whichever account started us."""

    def work() -> object:
        privileges.no_new_privileges()
        return status("NoNewPrivs")

    assert in_child(work) == ("{'NoNewPrivs': '1'}", 0)


def test_an_undumpable_process_is_roots_to_look_at() -> None:
    """Its memory and descriptors under /proc belong to root, whatever account it runs as."""

    def work() -> object:
        if os.geteuid() == 0:
            privileges.become(NOBODY.pw_uid, NOBODY.pw_gid)
        privileges.undumpable()
        return Path("/proc/self/mem").stat().st_uid, libc.prctl(3)  # PR_GET_DUMPABLE

    assert in_child(work) == ("(0, 0)", 0)


def test_without_ctypes_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If ctypes can't be imported, as where code must not be made at run time, each call fails with ENOSYS."""
    monkeypatch.setitem(sys.modules, "ctypes", None)
    libc._function.cache_clear()  # noqa: SLF001 - another test has called it
    libc.load()
    for step in (privileges.no_new_privileges, privileges.undumpable, privileges.drop_capabilities):
        assert errno_of(step) == errno.ENOSYS

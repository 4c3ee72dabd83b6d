"""The filters' programs, run by an interpreter, for both architectures, whichever this machine has."""

import itertools
import platform
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.system.syscalls import profiles
from pyssh_gateway.system.syscalls.numbers import NUMBERS
from pyssh_gateway.system.syscalls.profiles import Condition, Profile
from pyssh_gateway.system.syscalls.seccomp import (
    ALLOW,
    ENOSYS,
    EPERM,
    ERRNO,
    KILL_PROCESS,
    MACHINES,
    X32_BIT,
    Machine,
    program,
)
from tests.support import bpf

pytestmark = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())

PROFILES = pytest.mark.parametrize("profile", profiles.ALL, ids=[profile.name for profile in profiles.ALL])
REFUSED, ABSENT = ERRNO | EPERM, ERRNO | ENOSYS
I386, ARM = 0x40000003, 0x40000028
"""AUDIT_ARCH_I386 and AUDIT_ARCH_ARM: the architectures of 32-bit programs on the two machines."""


def expected(profile: Profile, name: str) -> int | None:
    """A profile's result for a call; None if it depends on an argument."""
    if name in profile.conditional:
        return None
    for names, result in ((profile.allowed, ALLOW), (profile.deadly, KILL_PROCESS), (profile.absent, ABSENT)):
        if name in names:
            return result
    return REFUSED


@PROFILES
def test_each_call_gets_what_the_profile_says(profile: Profile, machine: Machine) -> None:
    """For every number, with or without a name, the program gives the result in the profile's table."""
    filter_ = program(profile, machine)
    names = {machine.number(name): name for name in NUMBERS}
    for number in range(600):
        wanted = expected(profile, names[number]) if number in names else REFUSED
        if wanted is not None:
            result = bpf.run(filter_, architecture=machine.architecture, number=number)
            assert result == wanted, (number, names.get(number))


@PROFILES
def test_another_architecture_is_death(profile: Profile, machine: Machine) -> None:
    """A call as another architecture kills the process, as the same numbers have other meanings there."""
    filter_ = program(profile, machine)
    others = {I386, ARM, 0, *(other.architecture for other in MACHINES.values())} - {machine.architecture}
    for architecture in others:
        for number in (*range(600), X32_BIT, 0xFFFFFFFF):
            assert bpf.run(filter_, architecture=architecture, number=number) == KILL_PROCESS


@PROFILES
def test_the_x32_abi_has_no_calls(profile: Profile, machine: Machine) -> None:
    """x32 calls, which have x86-64's architecture and numbers from 2^30 on, are all refused."""
    filter_ = program(profile, machine)
    for number in (*range(600), 0x3FFFFFFF):
        result = bpf.run(filter_, architecture=machine.architecture, number=X32_BIT + number)
        assert result == REFUSED


@given(number=st.integers(0, 0xFFFFFFFF), architecture=st.integers(0, 0xFFFFFFFF), argument=st.integers(0, 2**64 - 1))
def test_nothing_but_the_table_gets_through(machine: Machine, number: int, architecture: int, argument: int) -> None:
    """For any number and arguments, only a call in the profile is allowed."""
    for profile in profiles.ALL:
        arguments = (argument,) * 6
        result = bpf.run(program(profile, machine), architecture=architecture, number=number, arguments=arguments)
        named = {machine.number(name) for name in (*profile.allowed, *profile.conditional)}
        assert result != ALLOW or (architecture == machine.architecture and number in named)


@PROFILES
@given(argument=st.integers(0, 2**64 - 1))
def test_arguments_are_judged(profile: Profile, machine: Machine, argument: int) -> None:
    """A condition depends only on the low half of its argument, and not on the high half or other arguments."""
    filter_ = program(profile, machine)
    # An argument may equal a call's number: the program must not compare it with numbers of calls.
    calls = {name: number for name in profile.conditional if (number := machine.number(name)) is not None}
    assert calls.keys() == profile.conditional.keys()
    for name, condition in profile.conditional.items():
        likely = {*condition.one_of, condition.all_of, condition.none_of, argument | condition.all_of}
        for value, other in itertools.product({argument, *likely, *calls.values()}, (0, 0xFFFFFFFFFFFFFFFF)):
            arguments = [other] * 6
            arguments[condition.argument] = value
            result = bpf.run(filter_, architecture=machine.architecture, number=calls[name], arguments=tuple(arguments))
            assert (result == ALLOW) == holds(condition, value & 0xFFFFFFFF)
            assert result in {ALLOW, REFUSED}


def holds(condition: Condition, value: int) -> bool:
    """Whether a condition is true, computed without BPF."""
    if condition.one_of and value not in condition.one_of:
        return False
    return value & condition.all_of == condition.all_of and not value & condition.none_of


def test_several_bits_are_all_needed(machine: Machine) -> None:
    """`all_of` needs all of its bits, while BPF's own test would accept any one."""
    profile = Profile("test", frozenset(), {"clone": Condition(0, all_of=0x10100)}, frozenset())
    number = machine.number("clone")
    assert number is not None
    results = [
        bpf.run(program(profile, machine), architecture=machine.architecture, number=number, arguments=(flags,))
        for flags in (0x10100, 0x30101, 0x10000, 0x100, 0)
    ]
    assert results == [ALLOW, ALLOW, REFUSED, REFUSED, REFUSED]


@PROFILES
def test_no_call_is_named_twice(profile: Profile, machine: Machine) -> None:
    """A call in two sets of a profile would get the result of the test that comes first."""
    kinds = (profile.allowed, frozenset(profile.conditional), profile.deadly, profile.absent)
    assert sum(map(len, kinds)) == len(frozenset().union(*kinds))
    assert frozenset().union(*kinds) <= NUMBERS.keys()


def test_seccomp_finds_itself(machine: Machine) -> None:
    """The number used to install the filter equals the table's."""
    assert machine.seccomp == machine.number("seccomp")


def test_no_two_calls_have_a_number(machine: Machine) -> None:
    """A wrong number would allow another call."""
    numbers = [number for name in NUMBERS if (number := machine.number(name)) is not None]
    assert len(numbers) == len(set(numbers))


@PROFILES
def test_what_leads_out_is_deadly_in_all(profile: Profile, machine: Machine) -> None:
    """In every profile running a program, access to another process's memory, and unfiltered calls kill the process."""
    for name in ("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "io_uring_setup"):
        number = machine.number(name)
        assert number is not None
        result = bpf.run(program(profile, machine), architecture=machine.architecture, number=number)
        assert result == KILL_PROCESS


def headers(machine: Machine) -> tuple[Path, dict[str, int]]:
    """The header file with this system's numbers (package linux-libc-dev), and these numbers."""
    if machine is MACHINES["x86_64"]:
        path = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    else:
        path = Path("/usr/include/asm-generic/unistd.h")
    if not path.exists():
        pytest.skip(f"no {path} on this {platform.machine()}")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", path.read_text(), re.MULTILINE)
    return path, {"newfstatat" if name == "fstatat" else name: int(number) for name, number in found}


def test_the_numbers_are_the_kernels(machine: Machine) -> None:
    """The table agrees with this machine's headers, if it has any, for all calls in them."""
    path, theirs = headers(machine)
    for name in NUMBERS:
        ours = machine.number(name)
        if name in theirs:
            assert ours == theirs[name], (name, path)
        else:
            # Older headers lack the newest calls, and aarch64 does not have the oldest.
            assert ours is None or ours >= max(theirs.values()), name

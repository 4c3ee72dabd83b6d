"""A seccomp filter of our own: a profile becomes a program of classic BPF, which the kernel runs at each system call.

The program sees `struct seccomp_data` (seccomp(2)): the call's number, the architecture that it was made in, and its
arguments. It looks at the architecture first: an x86-64 process can call as i386, whose numbers mean other calls. Then
come the call's number and, for some, one argument. Each instruction is a `struct sock_filter` (linux/filter.h).
"""

import os
import struct
from collections.abc import Iterable
from functools import cache

from pyssh_gateway.system import libc
from pyssh_gateway.system.syscalls.numbers import NUMBERS
from pyssh_gateway.system.syscalls.profiles import Condition, Profile

KILL_PROCESS = 0x80000000
ERRNO = 0x00050000
ALLOW = 0x7FFF0000
"""Return values of a filter (linux/seccomp.h); ERRNO with the number of the error in its low 16 bits."""

EPERM, ENOSYS = 1, 38

X32_BIT = 0x40000000
"""The bit in the number of a call by the x32 ABI, which has the architecture value of x86-64."""

NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET, ARGUMENT_BYTES = 0, 4, 16, 8
"""In `struct seccomp_data`. The low half of an argument comes first: both machines are little-endian."""

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Operations of linux/bpf_common.h: LD|W|ABS; JMP|JEQ|K, JMP|JGE|K, JMP|JSET|K; RET|K."""

INSTRUCTION = struct.Struct("=HBBI")
"""`struct sock_filter`: operation, instructions to skip if true, and if false, operand."""

MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS; the kernel accepts no longer program."""

SET_MODE_FILTER, FLAG_TSYNC = 1, 1
"""seccomp(2): install a program, for all threads of the process."""


class Machine:
    """An architecture as seccomp sees it: AUDIT_ARCH_* of linux/audit.h, and its column in `NUMBERS`.

    `seccomp` is the number of seccomp(2) itself.
    """

    def __init__(self, architecture: int, column: int, *, seccomp: int, x32: bool) -> None:
        self.architecture = architecture
        self.seccomp = seccomp
        self.x32 = x32
        self._column = column

    def number(self, name: str) -> int | None:
        """The number of a call; None if this machine does not have it."""
        return NUMBERS[name][self._column]


MACHINES = {
    "x86_64": Machine(0xC000003E, 0, seccomp=317, x32=True),
    "aarch64": Machine(0xC00000B7, 1, seccomp=277, x32=False),
}
"""The machines by their names in uname(2)."""


@cache
def program(profile: Profile, machine: Machine) -> bytes:
    """The filter for `profile`, as the array of `struct sock_filter` that seccomp(2) takes."""
    code: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_EQUAL, 1, 0, machine.architecture),
        _return(KILL_PROCESS),
        (LOAD, 0, 0, NUMBER_OFFSET),
    ]
    if machine.x32:
        code += _answer(JUMP_GREATER_EQUAL, X32_BIT, [_return(ERRNO | EPERM)])
    # Allowed calls first: kernels before 5.11 run the program for each call, so these get the fastest answer.
    for names, result in ((profile.allowed, ALLOW), (profile.deadly, KILL_PROCESS), (profile.absent, ERRNO | ENOSYS)):
        for number in _numbers(names, machine):
            code += _answer(JUMP_EQUAL, number, [_return(result)])
    for name, condition in sorted(profile.conditional.items()):
        number_here = machine.number(name)
        if number_here is not None:
            code += _answer(JUMP_EQUAL, number_here, _judged(condition))
    code.append(_return(ERRNO | EPERM))
    if len(code) > MOST_INSTRUCTIONS:
        raise ValueError(f"the filter of {profile.name} has {len(code)} instructions")
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in code)


def prepare(profile: Profile) -> None:
    """Prepare `profile` and everything that `install` needs in this process, for all that are forked from it."""
    libc.load()
    machine = MACHINES.get(os.uname().machine)
    if machine is not None:
        program(profile, machine)


def install(profile: Profile) -> str:
    """Apply `profile` to this process, with all its threads, for good. no_new_privs has to be set.

    Returns "" if that was done, else why the process goes on without: the kernel or a container's runtime has no
    seccomp, or the machine is one that there are no numbers for.
    """
    name = os.uname().machine
    machine = MACHINES.get(name)
    if machine is None or struct.calcsize("P") != 8:
        return f"there is no filter of system calls for {name} with {8 * struct.calcsize('P')}-bit programs"
    code = program(profile, machine)
    try:
        import ctypes  # late: only a process that is about to be locked in needs it

        instructions = ctypes.create_string_buffer(code, len(code))
        # struct sock_fprog: the number of instructions, and their address.
        header = struct.pack("@HP", len(code) // INSTRUCTION.size, ctypes.addressof(instructions))
        described = ctypes.create_string_buffer(header, len(header))
        other = libc.syscall(machine.seccomp, SET_MODE_FILTER, FLAG_TSYNC, ctypes.addressof(described))
    except (ImportError, MemoryError, OSError) as error:
        return f"seccomp can't be used here: {getattr(error, 'strerror', None) or error}"
    return f"thread {other} has a filter of its own" if other else ""


def _numbers(names: Iterable[str], machine: Machine) -> list[int]:
    """Their numbers on that machine, in ascending order."""
    return sorted(number for number in map(machine.number, names) if number is not None)


def _return(result: int) -> tuple[int, int, int, int]:
    return (RETURN, 0, 0, result)


def _answer(test: int, operand: int, block: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """If `test` is true of the value that was loaded last, run `block`, which returns; else continue after it."""
    return [(test, 0, len(block), operand), *block]


def _judged(condition: Condition) -> list[tuple[int, int, int, int]]:
    """Return ALLOW or EPERM, depending on one argument."""
    code: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, ARGUMENTS_OFFSET + ARGUMENT_BYTES * condition.argument),
    ]
    refuse = _return(ERRNO | EPERM)
    bits = condition.all_of
    while bits:
        bit = bits & -bits
        code += [(JUMP_SET, 1, 0, bit), refuse]
        bits ^= bit
    if condition.none_of:
        code += _answer(JUMP_SET, condition.none_of, [refuse])
    if condition.one_of:
        for value in condition.one_of:
            code += _answer(JUMP_EQUAL, value, [_return(ALLOW)])
        code.append(refuse)
    else:
        code.append(_return(ALLOW))
    return code

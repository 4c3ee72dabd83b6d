"""The kernel's side of seccomp: an interpreter for filters in classic BPF (linux/filter.h).

It knows the operations that seccomp(2) allows and that our filters use; any other is an error, as for the kernel.
"""

import struct

DATA = struct.Struct("<iIQ6Q")
"""`struct seccomp_data`: number, architecture, instruction pointer, arguments."""

_INSTRUCTION = struct.Struct("=HBBI")


def run(program: bytes, *, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the filter `program` returns for a system call. AssertionError if the kernel would have rejected it."""
    code = list(_INSTRUCTION.iter_unpack(program))
    assert 0 < len(code) <= 4096
    given = tuple(each & 0xFFFFFFFFFFFFFFFF for each in (*arguments, *(0,) * (6 - len(arguments))))
    signed = number if number < 0x80000000 else number - 0x100000000
    data = DATA.pack(signed, architecture, 0, *given)
    accumulator = 0
    at = 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            assert operand % 4 == 0
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation in {0x15, 0x35, 0x45}:  # BPF_JMP | BPF_JEQ, BPF_JGE or BPF_JSET | BPF_K
            true = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: accumulator & operand != 0}
            at += if_true if true[operation] else if_false
        elif operation == 0x06:  # BPF_RET | BPF_K
            return int(operand)
        else:
            raise AssertionError(f"operation {operation:#x} at {at - 1}")

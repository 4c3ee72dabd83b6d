"""Linux's calls for which Python has no function, by ctypes.

ctypes is imported by the first call, because the import takes milliseconds. Where memory may not be writable and
executable, as under some SELinux policies, the import fails, and so does every call here, with ENOSYS.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache


def load() -> None:
    """Import ctypes now, for a process that will have no access to files, or for all that are forked from this one."""
    with suppress(OSError):  # each call reports it
        for name in ("prctl", "capset", "syscall"):
            _function(name)


def prctl(option: int, argument: int | bytes = 0) -> int:
    """Make a change that only this system call can make; the further arguments are 0. Raises OSError."""
    return _call("prctl", option, argument, 0, 0, 0)


def capset(header: bytes, sets: bytes) -> None:
    """Set the calling thread's capabilities; the arguments are capset's two structures. Raises OSError."""
    _call("capset", header, sets)


def syscall(number: int, *arguments: int) -> int:
    """Make the system call `number` of this machine (syscall(2)); pointers are addresses. Raises OSError."""
    return _call("syscall", number, *arguments)


def _call(name: str, *arguments: int | bytes) -> int:
    function = _function(name)
    import ctypes  # can't fail: `_function` has imported it

    # Longs: the functions above are variadic or take pointers, and the kernel reads whole registers.
    result = function(*(ctypes.c_ulong(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@cache
def _function(name: str) -> Callable[..., int]:
    """A function of the C library, cached: the look-up takes a hundred times as long as a call."""
    try:
        import ctypes  # late: see above

        function: Callable[..., int] = ctypes.CDLL(None, use_errno=True)[name]
    except (ImportError, OSError, MemoryError, AttributeError) as error:
        raise OSError(errno.ENOSYS, f"ctypes can't be used: {error}") from None
    return function

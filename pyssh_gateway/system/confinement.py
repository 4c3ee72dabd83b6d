"""The last steps by which one of the server's processes locks itself in, once it is the account that it stays.

Straight-line code, because the order matters: capabilities first, then no_new_privs, which the filter needs; the filter
last, because it forbids the steps before it.
"""

from collections.abc import Callable

from pyssh_gateway.system import privileges
from pyssh_gateway.system.syscalls import seccomp
from pyssh_gateway.system.syscalls.profiles import Profile

NO_BOUNDS = "the capability bounding set can't be emptied"
"""What is missing where `privileges.empty_bounding_set`, which takes root's rights and so comes before, can't be."""


def confine(profile: Profile, *, undumpable: bool = True) -> list[str]:
    """Lock the calling process in for good: what it may do from here on is its account's and in `profile`.

    Call it before there are threads. What would be imported later has to be readable for the account.

    Returns what this machine does not have, a line each for the log.
    """
    missing: list[str] = []
    attempt(missing, "capabilities can't be dropped", privileges.drop_capabilities)
    attempt(missing, "no_new_privs can't be set", privileges.no_new_privileges)
    if undumpable:
        attempt(missing, "the process can't be made undumpable", privileges.undumpable)
    if unfiltered := seccomp.install(profile):
        missing.append(unfiltered)
    return missing


def attempt(missing: list[str], what: str, step: Callable[[], None]) -> None:
    """Do `step`, or note in `missing` that this machine can't."""
    try:
        step()
    except OSError as error:
        missing.append(f"{what}: {error.strerror}")

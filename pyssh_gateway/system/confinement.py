"""The last steps by which a process of the server sandboxes itself, after it has changed to its final account.

Straight-line code, because the order matters: capabilities first, then no_new_privs, which the filter needs; the filter
last, because it forbids the steps before it.
"""

from collections.abc import Callable

from pyssh_gateway.system import privileges
from pyssh_gateway.system.syscalls import seccomp
from pyssh_gateway.system.syscalls.profiles import Profile

NO_BOUNDS = "the capability bounding set can't be emptied"
"""Reported if `privileges.empty_bounding_set`, an earlier step because it takes root's rights, is not possible."""


def confine(profile: Profile, *, undumpable: bool = True) -> list[str]:
    """Sandbox the calling process for good: from here on it has only the rights of its account that `profile` allows.

    Call it before there are threads. Modules that are imported later have to be readable for the account.

    Returns the steps that this machine does not have, a line each for the log.
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
    """Do `step`, or note `what` in `missing` if this machine can't."""
    try:
        step()
    except OSError as error:
        missing.append(f"{what}: {error.strerror}")

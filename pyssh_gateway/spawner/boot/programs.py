"""Running the machine's own programs at boot: those that change the account files."""

import subprocess

from pyssh_gateway.core.launch import ROOT_PATH
from pyssh_gateway.spawner.child import UMASK

PROGRAM_SECONDS = 30
"""useradd updates a few files under a lock; if that takes longer, another process holds the lock for good."""

_ENVIRONMENT = {"PATH": ROOT_PATH.decode(), "LC_ALL": "C"}


class CannotMake(Exception):
    """A part of an account can't be made; the text says why."""


def run(program: str, *arguments: str, if_missing: type[Exception] = CannotMake) -> None:
    """Run a program of the machine. Raises `CannotMake` with its error message, `if_missing` if it is not installed."""
    try:
        subprocess.run(
            [program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=PROGRAM_SECONDS,
            env=_ENVIRONMENT,
            umask=UMASK,
        )
    except FileNotFoundError:
        raise if_missing(f"there is no {program} on this machine: install it") from None
    except subprocess.TimeoutExpired:
        raise CannotMake(f"{program} has not ended within {PROGRAM_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
        raise CannotMake(said if said.startswith(program) else f"{program}: {said}") from None

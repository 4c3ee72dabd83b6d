"""Files by SFTP, with the installed sftp: one large, and many small. The SFTP server counts as the server's."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cost import Metered, Moved, metered
from bench.figures import Figure
from bench.rig import Rig
from bench.servers import Server

SIZE = 256 * 1024 * 1024

SMALL_FILES = 1000
SMALL_SIZE = 1024
"""As many small files as a checkout has: their cost is in the requests, not in the bytes."""


def large(rig: Rig) -> list[Figure]:
    """A file of 256 MiB, there and back."""
    with metered(rig) as cost, _directories(rig) as (here, there):
        (here / "large").touch()
        with (here / "large").open("r+b") as file:
            file.truncate(SIZE)
        figures = _transfer(cost, f"sftp put {SIZE >> 20} MiB", [f"put {here}/large {there}/large"])
        figures += _transfer(cost, f"sftp get {SIZE >> 20} MiB", [f"get {there}/large {here}/back"])
        return figures


def small(rig: Rig) -> list[Figure]:
    """A thousand files of 1 KiB, there and back."""
    with metered(rig) as cost, _directories(rig) as (here, there):
        (here / "tree").mkdir()
        for number in range(SMALL_FILES):
            (here / "tree" / f"{number}").write_bytes(bytes(SMALL_SIZE))
        # The same names each time: whether a directory has to be made is one request more or less in a thousand.
        figures = _transfer(cost, f"sftp put {SMALL_FILES} small files", [f"put -r {here}/tree {there}/"])
        figures += _transfer(cost, f"sftp get {SMALL_FILES} small files", [f"get -r {there}/tree {here}/back"])
        return figures


def _transfer(cost: Metered, name: str, commands: list[str]) -> list[Figure]:
    def move(server: Server) -> Moved:
        return Moved(cost.rig.client.sftp(server, commands))

    return cost.figures(name, move)


@contextmanager
def _directories(rig: Rig) -> Iterator[tuple[Path, str]]:
    """A directory for the client, and the name of one that the account may write to; both are emptied afterwards."""
    here = rig.directory / "files"
    here.mkdir()
    name = f"pyssh-bench-files-{rig.directory.name}"
    rig.client.run(rig.sshd, f"mkdir {name}")
    try:
        yield here, name
    finally:
        shutil.rmtree(here)
        rig.client.run(rig.sshd, f"rm -rf {name}")

"""The equipment of the measurements: both servers, one client, and how often each measurement is repeated."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench import servers
from bench.client import Client, ClientFailed
from bench.interrupts import held_back
from bench.machine import free_port, login_account, more_accounts
from bench.servers import Server

T = TypeVar("T")


NO_CROWD = "Only root can make accounts: run as root to see what it costs to serve several."


class Effort(NamedTuple):
    """How often each measurement is done with each server. `keystrokes` is per block; `minutes` is waiting time."""

    starts: int
    logins: int
    batches: int
    commands: int
    transfers: int
    blocks: int
    keystrokes: int
    fleets: int
    floods: int
    distant: int
    minutes: int


FULL = Effort(
    starts=15,
    logins=30,
    batches=5,
    commands=50,
    transfers=5,
    blocks=5,
    keystrokes=200,
    fleets=3,
    floods=2,
    distant=3,
    minutes=1,
)
QUICK = Effort(
    starts=5,
    logins=8,
    batches=1,
    commands=15,
    transfers=1,
    blocks=2,
    keystrokes=100,
    fleets=1,
    floods=1,
    distant=1,
    minutes=0,
)


@dataclass(frozen=True)
class Rig:
    """Both servers, ready to be started, and the client that reaches them.

    `others` are clients that log in to other accounts, each with a key of its own: of a `crowd` only.
    `notes` are remarks for the reader of the figures; `note` adds one.
    """

    ours: Server
    sshd: Server
    client: Client
    others: tuple[Client, ...]
    directory: Path
    effort: Effort
    notes: list[str]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both servers running, with one login behind them."""
        with self.ours.running(), self.sshd.running():
            for server in (self.ours, self.sshd):
                self.client.run(server, "true")
            yield

    def sshd_gives_terminals(self) -> bool:
        """Whether the running sshd can make ptys; adds a note if not. Started by root it always can."""
        try:
            self.client.run(self.sshd, "true", "-tt")
        except ClientFailed:
            self.note("sshd can't give ptys to this account (is /dev/pts mounted without gid=5?): run as root.")
            return False
        return True

    def note(self, text: str) -> None:
        """Add a remark for the reader of the figures, each text once."""
        if text not in self.notes:
            self.notes.append(text)

    def in_turns(
        self, times: int, measure: Callable[[Server], T], *, compare: bool = True
    ) -> tuple[tuple[T, ...], tuple[T, ...]]:
        """`measure` with ours, sshd, ours, sshd ..., so that noise hits both; the results of each.

        With `compare` false sshd is left out, because its figure can't be measured on this machine.
        """
        ours, sshd = [], []
        for _ in range(times):
            ours.append(measure(self.ours))
            if compare:
                sshd.append(measure(self.sshd))
        return tuple(ours), tuple(sshd)


@contextmanager
def assembled(effort: Effort, notes: list[str]) -> Iterator[Rig]:
    """A rig in a temporary directory. Nothing of it is left when the context ends."""
    with (
        _scratch_directory() as directory,
        servers.privilege_separation_directory(),
        login_account(directory / "home") as account,
    ):
        rig = _rig(directory, [account.pw_name], effort, notes)
        with rig.running():
            pass  # the work of a first start only (bytecode, reading from the disk) is done now
        yield rig


@contextmanager
def crowd(rig: Rig, count: int) -> Iterator[Rig]:
    """Servers as those of `rig`, but with `count` further accounts, which are there until the context ends.

        The other figures are measured without them: each account is one more key to read at a start. Without root there
        is
    none.
    """
    directory = rig.directory / f"crowd-{count}"
    directory.mkdir()
    try:
        with more_accounts(count, directory) as names:
            yield _rig(directory, [rig.client.user, *names], rig.effort, rig.notes)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _rig(directory: Path, users: list[str], effort: Effort, notes: list[str]) -> Rig:
    """Both servers for these accounts, with their keys and configuration in `directory`, and a client for each."""
    logins = [servers.make_login(directory, user) for user in users]
    sshd = servers.openssh(directory, free_port())
    ours = servers.gateway(directory, logins, free_port())
    known_hosts = directory / "known_hosts"
    known_hosts.write_text(
        f"{sshd.name} {servers.host_key(directory).read_text()}"
        f"{ours.name} {servers.host_key(directory / servers.KEYS).read_text()}"
    )
    client, *others = (Client(login.user, login.key, known_hosts) for login in logins)
    return Rig(ours, sshd, client, tuple(others), directory, effort, notes)


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pyssh-bench-"))
    try:
        directory.chmod(0o755)  # the account to log in to has its home in here
        yield directory
    finally:
        with held_back():
            shutil.rmtree(directory, ignore_errors=True)

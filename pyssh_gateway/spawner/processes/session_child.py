"""The child that becomes a session's process: told for whom and what, it is the user before it touches what is theirs.

One is kept at hand while people work (`forked_ahead`). The order is the security property, as in `child`.
"""

import os
import pwd
import select
import signal
import socket

import msgspec

from pyssh_gateway.core.launch import NOLOGIN_EXIT_STATUS, LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup
from pyssh_gateway.spawner.processes import process, program
from pyssh_gateway.spawner.processes.forked_ahead import ForkedAhead
from pyssh_gateway.spawner.processes.server_process import LastWords
from pyssh_gateway.spawner.processes.user_servers import UserServers
from pyssh_gateway.system.process_name import name_process, own_name

NAME = "pyssh-spare"
"""What `ps` shows of one that was forked ahead."""

LINK = 3
"""The descriptor at which it is told."""

NOT_YET = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""What is thrown away until then: a stop, or a reload, is the spawner's business."""


class Told(msgspec.Struct, frozen=True):
    """What it is for. `account` is the passwd entry, `tty` the terminal's path or empty.

    With `chroot`, that is its root directory, and it is the SFTP server. Descriptors: what becomes 0, 1, 2 and, for a
    built-in server, 3.
    """

    plan: LaunchPlan
    account: tuple[bytes, bytes, int, int, bytes, bytes, bytes]
    tty: str
    chroot: bytes | None


_decoder = msgspec.msgpack.Decoder(Told)


class SessionChildren:
    """Starts them. They get `inherited` back and may become one of `servers`."""

    def __init__(self, inherited: Inherited, servers: UserServers) -> None:
        self._inherited = inherited
        self._servers = servers
        self.ahead = ForkedAhead(self._start)

    def begin(
        self, plan: LaunchPlan, account: pwd.struct_passwd, tty: str, chroot: bytes | None, descriptors: list[int]
    ) -> tuple[int, int]:
        """Have a child become the process of `plan`; its pid, and a descriptor to poll.

        That ends when the child is the account, or is dead. Until then it may be root: a signal that its account sent
        would be root's. Raises OSError, and ProtocolError if there is more of the plan than one can be told.
        """
        forked = self.ahead.tell(protocol.packet_of(_told(plan, account, tty, chroot)), descriptors)
        forked.words.close()
        return forked.pid, forked.link.detach()

    def _start(self, link: socket.socket, words: LastWords) -> int:
        setup = Setup(
            descriptors=(NULL, NULL, words.fileno(), link.fileno()),
            inherited=self._inherited,
            ignored=NOT_YET,
            directory=None,
            complain=child.with_traceback,
        )
        return child.start(setup, self._wait)

    def _wait(self) -> int:
        """In the child: wait to be told, and become that."""
        link = socket.socket(fileno=LINK)
        if select.select([link], [], [], 0)[0]:
            packet, descriptors = protocol.receive(link)
        else:  # forked ahead
            before = own_name()
            name_process(NAME)
            _rehearse()
            packet, descriptors = protocol.receive(link)
            name_process(before)
        if not packet:
            return 0
        try:
            return _become(protocol.message_in(packet, _decoder, "session"), descriptors, link, self._servers)
        except BaseException as error:  # noqa: BLE001 - whatever it was, it is the session's end and is said there
            child.on_standard_error("pyssh-gateway: can't start the session: ")(error)
            return program.CANNOT_EXEC


def _rehearse() -> None:
    """Go through what a session waits for, up to where it would change something: then its memory has been copied."""
    account = pwd.getpwuid(os.getuid())
    protocol.message_in(protocol.packet_of(_told(_NOTHING, account, "", None)), _decoder, "session")
    process.refusal_now(account)
    os.getgrouplist(account.pw_name, account.pw_gid)


_NOTHING = LaunchPlan("", b"/bin/true", (b"true",), {b"PATH": b"/bin"}, b"/", None, greet=False)


def _told(plan: LaunchPlan, account: pwd.struct_passwd, tty: str, chroot: bytes | None) -> Told:
    name, password, uid, gid, *texts = account
    gecos, home, shell = map(os.fsencode, texts)
    return Told(plan, (os.fsencode(name), os.fsencode(password), uid, gid, gecos, home, shell), tty, chroot)


def _become(told: Told, descriptors: list[int], link: socket.socket, servers: UserServers) -> int:
    """Be the account, with the session's descriptors and no others, and then the session's process."""
    name, password, uid, gid, *texts = told.account
    account = pwd.struct_passwd((*map(os.fsdecode, (name, password)), uid, gid, *map(os.fsdecode, texts)))
    until_ready = child.arrange(tuple(descriptors), frozenset(), link.detach())
    child.let_signals_in(())
    refusal = process.refusal_now(account)
    process.claim_login(account.pw_uid)
    child.be_account(account.pw_name, account.pw_uid, account.pw_gid, told.chroot)
    os.close(until_ready)
    if refusal is not None:
        os.write(2, refusal)
        return NOLOGIN_EXIT_STATUS
    if told.chroot is None:
        program.run(told.plan, account, told.tty, servers)
    else:
        program.run_in_chroot(told.plan, account, servers)
    return 0

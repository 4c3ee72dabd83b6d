"""The child that becomes a session's process: it gets its assignment, becomes the user, and runs the program.

A spare one is kept while users are active (`forked_ahead`). The order is the security property, as in `child`: the
child touches nothing of the user's before it is the user.
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
"""The name in `ps` of a child that was forked ahead."""

LINK = 3
"""The descriptor from which the child reads its assignment."""

NOT_YET = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Signals that are ignored until then: a stop or a reload is handled by the spawner."""


class Told(msgspec.Struct, frozen=True):
    """The child's assignment. `account` is the passwd entry, `tty` the terminal's path or empty.

    If `chroot` is given, it is the root directory, and the child becomes the SFTP server. The message comes with the
    descriptors that become 0, 1, 2 and, for a built-in server, 3.
    """

    plan: LaunchPlan
    account: tuple[bytes, bytes, int, int, bytes, bytes, bytes]
    tty: str
    chroot: bytes | None


_decoder = msgspec.msgpack.Decoder(Told)


class SessionChildren:
    """Starts such children. `inherited` is restored in them, and they may become one of `servers`."""

    def __init__(self, inherited: Inherited, servers: UserServers) -> None:
        self._inherited = inherited
        self._servers = servers
        self.ahead = ForkedAhead(self._start)

    def begin(
        self, plan: LaunchPlan, account: pwd.struct_passwd, tty: str, chroot: bytes | None, descriptors: list[int]
    ) -> tuple[int, int]:
        """Have a child become the process of `plan`; returns its pid, and a descriptor to poll.

        The descriptor reports end of file when the child is the account, or is dead. Until then the child may be root,
        so it must not be signalled for its account. Raises OSError, and ProtocolError if the plan is too large for a
        message.
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
        """In the child: wait for the assignment, and carry it out."""
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
        except BaseException as error:  # noqa: BLE001 - any exception ends the session, and is reported there
            child.on_standard_error("pyssh-gateway: can't start the session: ")(error)
            return program.CANNOT_EXEC


def _rehearse() -> None:
    """Run the code of a session's start that changes nothing, so that the kernel copies its memory pages now."""
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
    """Become the account, with the session's descriptors and no others, and then the session's process."""
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

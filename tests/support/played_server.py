"""A postauth process in the test's own loop, with a played monitor, spawner and preauth around it.

The clients are real: they connect over TCP to a transport that lets anybody in and hands over the connection's state.
"""

import asyncio
import os
import pwd
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
from asyncssh.constants import MSG_USERAUTH_REQUEST
from asyncssh.packet import SSHPacket

from pyssh_gateway.core.forwarding import ForwardingRules
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.login_rules import LoginRules
from pyssh_gateway.events import Identity
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.handover import decode
from pyssh_gateway.ipc.postauth import OfferedKey, TakeConnection
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.postauth.main import Postauth, run_postauth
from pyssh_gateway.ssh.handover import Movable
from pyssh_gateway.ssh.key_exchange import Services
from pyssh_gateway.ssh.options import options
from tests.support.waiting import PATIENCE

PRIVATE = asyncssh.generate_private_key("ssh-ed25519")
NEXT = asyncssh.generate_private_key("ssh-ed25519")


def host_key(private: asyncssh.SSHKey, *, is_next: bool) -> HostKey:
    """The key in the monitor's form."""
    return HostKey(
        path=Path("key"),
        private_pem=private.export_private_key("openssh"),
        public_blob=private.public_data,
        fingerprint=private.get_fingerprint(),
        created=True,
        next=is_next,
    )


SIGNER = HostKeySigner([host_key(PRIVATE, is_next=False), host_key(NEXT, is_next=True)])

IDENTITY = Identity("file:example", None, "SHA256:example")
RULES = LoginRules(forwarding=ForwardingRules(), force_command=None, env={}, accept_env=("LANG",), linger=None)


class Stranger(Movable):
    """A transport that lets anybody in at the first request."""

    async def _process_userauth_request(self, _pkttype: int, _pktid: int, packet: SSHPacket) -> None:
        self._user_of_first_request = packet.get_string()
        self._username = self._user_of_first_request.decode()
        await self.send_userauth_success()

    _packet_handlers = {  # noqa: RUF012 - asyncssh's table, which names functions and not methods
        **Movable._packet_handlers,  # noqa: SLF001 - asyncssh finds a handler in this table only
        MSG_USERAUTH_REQUEST: _process_userauth_request,
    }


class Owner(asyncssh.SSHServer):
    """An owner without behaviour of its own."""


class PlayedServer:
    """The postauth process and its surroundings. `heard` is all that it told the monitor, except questions."""

    def __init__(self, *, forked: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.postauth: asyncio.Future[int]
        self.heard: list[messages.FromPostauth] = []
        self.changed = asyncio.Event()
        self.signs = True
        self.logs = True
        self.at_once: list[messages.FromMonitor] = []
        self.hashes: list[bytes] = []
        self.spawned: list[protocol.Spawn] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self.refusal = ""
        self.monitor, to_monitor = protocol.socket_pair()
        self.spawner, to_spawner = protocol.socket_pair()
        for end in (self.monitor, self.spawner):
            end.setblocking(False)
        if forked:
            self.postauth = self.loop.run_in_executor(None, _exit_code, _fork(to_monitor, to_spawner))
        else:
            self.postauth = asyncio.ensure_future(Postauth(to_monitor, to_spawner, self.loop).run())
        self.loop.add_reader(self.monitor, self._hear)
        self.loop.add_reader(self.spawner, self._serve)
        self._connections = 0
        self._session_id = b""
        self._last_taken: TakeConnection

    # -- the monitor ----------------------------------------------------------------------------------------------

    def say(self, order: messages.FromMonitor, *descriptors: int) -> None:
        """Send an order."""
        socket.send_fds(self.monitor, [messages.encode(order)], descriptors)

    def take_again(self) -> None:
        """Hand over the last connection once more."""
        self.say(self._last_taken)

    def end_monitor(self) -> None:
        """The monitor dies."""
        if self.monitor.fileno() != -1:
            self.loop.remove_reader(self.monitor)
            self.monitor.close()

    def begin_monitor(self) -> None:
        """The spawner starts another monitor."""
        self.monitor, theirs = protocol.socket_pair()
        self.monitor.setblocking(False)
        self.loop.add_reader(self.monitor, self._hear)
        with theirs:
            socket.send_fds(self.spawner, [protocol.encode(protocol.NewMonitor())], [theirs.fileno()])

    def end_spawner(self) -> None:
        """The spawner dies."""
        if self.spawner.fileno() != -1:
            self.loop.remove_reader(self.spawner)
            self.spawner.close()

    def _hear(self) -> None:
        packet, _ = protocol.receive(self.monitor)
        if not packet:
            self.loop.remove_reader(self.monitor)
            return
        message = messages.decode_from_postauth(packet)
        match message:
            case messages.Sign(id=number, algorithm=algorithm, hash=exchange_hash):
                self.hashes.append(exchange_hash)
                self.say(messages.Signed(number, SIGNER.sign(algorithm, exchange_hash) if self.signs else None))
            case messages.Prove(id=number, blobs=blobs, rsa=rsa):
                self.say(messages.Proved(number, SIGNER.prove(blobs, self._session_id, rsa)))
            case _:
                self.heard.append(message)
        if self.logs:
            self.log()
        self.changed.set()

    def log(self) -> None:
        """Say that everything that was heard is in the log: done after each message while `logs` is true."""
        match self.heard[-1:]:
            case [messages.Happened(first=first, events=events)]:
                self.say(messages.Logged(first + len(events) - 1))
            case [messages.Taken(number=number) | messages.Crashed(number=number) | messages.Lost(number=number)]:
                self.say(messages.Logged(number))

    @property
    def events(self) -> list[messages.Told]:
        """The events so far."""
        told = [message for message in self.heard if isinstance(message, messages.Happened)]
        return [messages.unpack(packed) for message in told for packed in message.events]

    async def until(self, look: Callable[[], Any]) -> Any:  # noqa: ANN401 - what a test looks for
        """The result of `look`, as soon as it is true."""
        while not (seen := look()):
            self.changed.clear()
            await self.changed.wait()
        return seen

    async def until_heard(self, kind: type[Any], count: int = 1) -> Any:  # noqa: ANN401 - an event of that kind
        """The last of `count` messages or events of that kind."""

        def look() -> list[object]:
            found = [one for one in (*self.heard, *self.events) if isinstance(one, kind)]
            return found if len(found) >= count else []

        return (await self.until(look))[count - 1]

    # -- the spawner ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        packet, _ = protocol.receive(self.spawner)
        if not packet:
            self.loop.remove_reader(self.spawner)
            return
        request = protocol.decode_postauth_request(packet)
        assert isinstance(request, protocol.Spawn)
        self.spawned.append(request)
        if self.refusal:
            self.spawner.send(protocol.encode(protocol.Refused(request.id, self.refusal)))
            return
        plan = request.plan
        child = subprocess.Popen(
            [os.fsdecode(word) for word in plan.argv],
            executable=plan.executable,
            env=plan.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin
        assert child.stdout
        assert child.stderr
        self.children.append(child)
        streams = [child.stdin, child.stdout, child.stderr]
        answer = protocol.encode(protocol.Spawned(request.id, child.pid, ""))
        socket.send_fds(self.spawner, [answer], [stream.fileno() for stream in streams])
        for stream in streams:
            stream.close()
        self.loop.run_in_executor(None, child.wait).add_done_callback(lambda done: self._exited(request.id, done))

    def _exited(self, number: int, done: "asyncio.Future[int]") -> None:
        code = done.result()
        status, signal_number = (None, -code) if code < 0 else (code, None)
        if self.spawner.fileno() != -1:
            self.spawner.send(protocol.encode(protocol.Exited(number, status, signal_number, core_dumped=False)))

    # -- preauth and its client -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def client(self, rules: LoginRules = RULES, **more: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:  # noqa: ANN401 - fields of TakeConnection, and asyncssh's options
        """A client of asyncssh that has logged in; `more`: fields of `TakeConnection`, and asyncssh's options."""
        fields = {name: more.pop(name) for name in list(more) if name in TakeConnection.__struct_fields__}
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        with listening:
            given = asyncio.ensure_future(self._stranger(listening, rules, fields))
            async with asyncssh.connect(
                *listening.getsockname(),
                username=pwd.getpwuid(os.getuid()).pw_name,
                known_hosts=([PRIVATE.convert_to_public()], [], []),
                client_keys=None,
                agent_path=None,
                config=None,
                **more,
            ) as connection:
                await given
                yield connection

    async def _stranger(self, listening: socket.socket, rules: LoginRules, fields: dict[str, Any]) -> None:
        """Serve the client until it is logged in, and hand it over as the monitor does."""
        accepted, _ = await self.loop.sock_accept(listening)
        given: asyncio.Future[tuple[bytes, socket.socket]] = self.loop.create_future()

        async def sign(algorithm: bytes, exchange_hash: bytes) -> bytes:
            self._session_id = exchange_hash
            return SIGNER.sign(algorithm, exchange_hash)

        async def prove(_asked: tuple[bytes, ...], _rsa: bytes) -> bytes | None:
            return None

        services = Services(
            sign=sign,
            prove=prove,
            spoke=lambda: None,
            greeted=lambda _line, _made: None,
            only_gcm=lambda _version, _ciphers: False,
            wait=lambda _version, _round_trip: 0.0,
            negotiation_failed=lambda: None,
            logged_in=lambda _version, _ciphers: None,
            is_direct=True,
            hand_over=lambda state, sock: given.set_result((state, sock)),
        )
        settings = options(SIGNER.offered, SIGNER.announced, identification="test")
        stranger = Stranger(self.loop, settings, services)
        stranger._protocol_factory = Owner  # noqa: SLF001 - as the connection that is built from its state does
        await self.loop.connect_accepted_socket(lambda: stranger, accepted)
        state, sock = await given
        assert decode(state).session_id == self._session_id
        self._connections += 1
        order = TakeConnection(
            conn=f"c{self._connections}",
            identity=IDENTITY,
            rules=rules,
            endpoints=Endpoints("192.0.2.1", 50000, "192.0.2.2", 22),
            session_id=self._session_id,
            state=state,
            host_keys=tuple(OfferedKey(*key) for key in SIGNER.offered),
            announced=SIGNER.announced,
            identification="played",
            keepalive=None,
            keepalive_misses=3,
            sessions=10,
            opened_seconds=1.0,
        )
        self._last_taken = msgspec.structs.replace(order, **fields)
        with sock:
            self.say(self._last_taken, sock.fileno())
        for order_ in self.at_once:
            self.say(order_)


class Assigned:
    """A process that has its account from the start."""

    is_there = True

    def __init__(self, *sockets: socket.socket) -> None:
        self._monitor, self._spawner = sockets

    def take(self) -> tuple[socket.socket, socket.socket]:
        """Its sockets."""
        return self._monitor, self._spawner


def _fork(to_monitor: socket.socket, to_spawner: socket.socket) -> int:
    """Start the process as the spawner does, but without changing the account; its pid."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.closerange(3, min(to_monitor.fileno(), to_spawner.fileno()))
            os.closerange(max(to_monitor.fileno(), to_spawner.fileno()) + 1, 1024)
            code = run_postauth(Assigned(to_monitor, to_spawner))
        finally:
            os._exit(code)
    to_monitor.close()
    to_spawner.close()
    return pid


def _exit_code(pid: int) -> int:
    """The exit code of the process, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@asynccontextmanager
async def played_server(*, forked: bool = False) -> AsyncIterator[PlayedServer]:
    """A `PlayedServer`, removed at the end with everything that was started; `forked`: in a process of its own."""
    server = PlayedServer(forked=forked)
    try:
        async with asyncio.timeout(PATIENCE):
            yield server
    finally:
        server.end_monitor()
        server.end_spawner()
        async with asyncio.timeout(PATIENCE):
            await server.postauth
        for child in server.children:
            child.kill()
            await asyncio.to_thread(child.wait)

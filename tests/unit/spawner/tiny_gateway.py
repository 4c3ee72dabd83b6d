"""Gateways of a few lines, run by a real Supervisor in a process of its own: `python tiny_gateway.py <which> ...`.

What they have to say to the test they print, one word or JSON value on a line. What they may ask for, and what happens
at boot, is in the environment: TINY_USERS, TINY_FILES, TINY_BOOT (a `[boot]` as JSON), TINY_LATE (an account that is
said to be made when that file is there).
"""

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway.config.types import Boot, Config
from pyssh_gateway.config.values import Duration
from pyssh_gateway.events import ServiceOutput
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.reread import Reread, decode
from pyssh_gateway.spawner.boot import steps
from pyssh_gateway.spawner.boot.progress import Booting, Step
from pyssh_gateway.spawner.crashes import Crash
from pyssh_gateway.spawner.hang_up import Terminal
from pyssh_gateway.spawner.outbox import STUCK_SECONDS
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.reload import Reloading
from pyssh_gateway.spawner.requests import Permissions
from pyssh_gateway.spawner.supervisor import RunGateway, Supervisor
from tests.support import processes
from tests.support.waiting import until

DRAIN = 0.3
"""The supervisor's drain time: what it waits, with its margin, before it kills a deaf gateway."""


def say(*words: object) -> None:
    """Print a line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def signals_wake() -> int:
    """A descriptor to read from when a signal has come: one that comes just before a system call waits for its end."""
    awake, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    return awake


def exits(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """End at once, with the code that the command line names."""
    say("generation", generation)
    return int(sys.argv[2])


def crashes_at_first(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Crash in each of the ways that there are, one generation after the other, then tell of them."""
    say("generation", generation)
    match generation:
        case 1:
            raise RuntimeError("a bug of the test's")
        case 2:
            os.kill(os.getpid(), signal.SIGKILL)
        case 3:
            os._exit(41)
        case 4:
            os.kill(os.getpid(), signal.SIGRTMIN + 1)
    say(json.dumps([[crash.cause, crash.sessions] for crash in crashes]))
    return 0


def crashes_always(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Never get better."""
    say("generation", generation)
    return 9


def waits(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Until SIGTERM, then leave."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    awake = signals_wake()
    say("ready", os.getpid())
    os.read(awake, 1)
    say("stopping")
    return 0


def deaf(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Whatever happens, stay."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: say("ignored"))
    awake = signals_wake()
    say("ready", os.getpid())
    while True:
        os.read(awake, 1)


def asks(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Send the requests of the JSON file on the command line; print every report with what its descriptors hold."""
    requests = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[protocol.Request])
    running = 0
    held: list[int] = []
    waiting = len([request for request in requests if not isinstance(request, protocol.Signal)])
    for request in requests:
        control.send(protocol.encode(request))
    while waiting or running:
        packet, descriptors = protocol.receive(control)
        report = protocol.decode_report(packet)
        waiting -= not isinstance(report, protocol.Exited | protocol.News)
        running += isinstance(report, protocol.Spawned) - isinstance(report, protocol.Exited)
        content = os.read(descriptors[0], 1000).decode() if isinstance(report, protocol.KeysOpened) else ""
        say(json.dumps([msgspec.to_builtins(report), len(descriptors), content]))
        held += descriptors  # a pty whose master is closed can't be anybody's controlling terminal
    protocol.close_all(held)
    return 0


def leaves_unread(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Leave with an answer unread, and say a last word when the supervisor has noticed."""
    say("generation", generation)
    control.send(protocol.encode(protocol.AwaitAccount(1, "")))
    select.select([control], [], [])
    before = len(processes.descriptors(os.getppid()))
    control.close()
    until(lambda: len(processes.descriptors(os.getppid())) < before, what="look at what the gateway had to say")
    say("last word")
    return 0


def garbage(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Be a gateway that has been taken over: say what is no message. The next one only tells."""
    say("generation", generation)
    if generation == 1:
        control.send(b"\xff not a message")
        signal.pause()
    return 0


def asks_badly(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Send the packet of the file on the command line, which is no request; the next gateway only tells."""
    say("generation", generation)
    if generation == 1:
        control.send(Path(sys.argv[2]).read_bytes())
        signal.pause()
    return 0


def reads_nothing(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Ask for more than there is room for, and read none of the answers; leave at SIGTERM."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    awake = signals_wake()
    control.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            control.send(protocol.encode(protocol.ReadKeys(1, "x" * 200_000)))
            select.select([], [control], [], STUCK_SECONDS / 10)
    say("full")
    os.read(awake, 1)
    say("stopping")
    return 0


def leaves_sessions(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Start the sessions of the JSON file and crash; the next one tells what it hears of that, and ends at a signal."""
    say("generation", generation)
    if generation == 1:
        for request in msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[protocol.Request]):
            control.send(protocol.encode(request))
            report = protocol.decode_report(protocol.receive(control)[0])
            assert isinstance(report, protocol.Spawned)
            say("session", report.pid)
        os._exit(1)
    say("crashes", crashes[-1].sessions)
    return waits(control, generation, crashes)


def hears(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Print every event that the spawner tells of; at SIGTERM have the services stopped, then end.

    On the command line: the file of requests to begin with; "crash" to crash once, when a service has written
    something; "leave" to end then.
    """
    if generation == 1:
        for request in msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[protocol.Request]):
            control.send(protocol.encode(request))
    signal.signal(signal.SIGTERM, lambda _number, _frame: control.send(protocol.encode(protocol.StopServices(7))))
    awake = signals_wake()
    say("generation", generation, os.getpid())
    while True:
        while control.fileno() not in select.select([control.fileno(), awake], [], [])[0]:
            os.read(awake, 1)
        packet, descriptors = protocol.receive(control)
        protocol.close_all(descriptors)
        report = protocol.decode_report(packet)
        if isinstance(report, protocol.Done):
            say("done")
            return 0
        events = report.events if isinstance(report, protocol.News) else ()
        for event in events:
            say(json.dumps(msgspec.to_builtins(event)))
        if any(isinstance(event, ServiceOutput) for event in events):
            match sys.argv[3:]:
                case ["crash"] if generation == 1:
                    os._exit(1)
                case ["leave"]:
                    return 0


def rereads_and_asks(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """The same, with a request as soon as a reader runs."""
    spawner = os.getppid()

    def ask() -> None:
        until(lambda: len(processes.descendants(spawner)) > 1, what="the reader")
        control.send(protocol.encode(protocol.AwaitAccount(3, "")))

    threading.Thread(target=ask).start()
    return rereads(control, generation, crashes)


def rereads(control: socket.socket, generation: int, crashes: tuple[Crash, ...]) -> int:
    """Each time that the configuration has been read again, print what came of it, and whether one may be `drain-N`."""
    say("ready")
    while True:
        packet, descriptors = protocol.receive(control)
        if not packet:
            return 0
        match protocol.decode_report(packet):
            case protocol.Done():
                say("asked and answered")
            case protocol.Reread():
                control.send(protocol.encode(protocol.TakeConfig(1)))
            case protocol.Opened():
                outcome = decode(os.pread(descriptors[0], 1 << 20, 0))
                drain = None if outcome.config is None else outcome.config.stop.drain
                say(json.dumps([drain, outcome.changed, outcome.problems]))
                control.send(protocol.encode(protocol.MakeSockets(2, f"drain-{sys.argv[2]}")))
            case protocol.Refused(reason=reason):
                say(reason)
        protocol.close_all(descriptors)


GATEWAYS: dict[str, RunGateway] = {
    gateway.__name__: gateway
    for gateway in (
        *(exits, crashes_at_first, crashes_always, waits, deaf, asks, asks_badly, reads_nothing, leaves_unread),
        *(garbage, leaves_sessions, hears, rereads, rereads_and_asks),
    )
}


def main(arguments: Sequence[str]) -> int:
    """Run the gateway that the command line names; what it may ask for comes after it."""
    users = frozenset(os.environ.get("TINY_USERS", "").split())
    files = dict.fromkeys(os.environ.get("TINY_FILES", "").split(), users)
    wanted = msgspec.json.decode(os.environ.get("TINY_BOOT", "{}"), type=Boot, dec_hook=lambda kind, value: kind(value))
    late = os.environ.get("TINY_LATE")
    booting = begin_late(Path(late)) if late else steps.begin(wanted, users)
    return Supervisor(
        GATEWAYS[arguments[1]],
        Permissions(users, files),
        DRAIN,
        terminal=Terminal(),
        reloading=reloading(users),
        services=wanted.service,
        booting=booting,
    ).run()


def reloading(users: frozenset[str]) -> Reloading:
    """Reads the file that TINY_CONFIG names, which has a drain time, or waits for it if that is a FIFO."""
    path = Path(os.environ.get("TINY_CONFIG", "/nowhere"))

    def read(in_force: Config) -> Reread:
        stop = msgspec.structs.replace(in_force.stop, drain=Duration(path.read_text()))
        return Reread(msgspec.structs.replace(in_force, stop=stop), changed=("stop.drain",))

    return Reloading(
        Config(),
        read=read,
        permissions_of=lambda config: Permissions(users | {f"drain-{config.stop.drain:g}"}, {}),
        open_log=lambda: os.open(os.environ["TINY_LOG"], os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600),
    )


def begin_late(path: Path) -> Booting:
    """A boot whose one step makes the account that stands in the file `path`, as soon as that is there."""
    ours, theirs = protocol.socket_pair()
    user, parent = os.environ["TINY_USERS"], os.getpid()
    pid = process.fork()
    if pid == 0:
        process.default_signals()
        ours.close()
        while not path.exists() and os.getppid() == parent:
            time.sleep(0.01)
        theirs.send(msgspec.msgpack.encode(Step("late", "ok", user)))
        os._exit(0)
    theirs.close()
    return Booting(pid, ours, frozenset({user}))


if __name__ == "__main__":
    sys.exit(main(sys.argv))

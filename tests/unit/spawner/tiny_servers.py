"""Tiny monitors, preauth and postauth processes, run by a real Supervisor in its own process.

`python tiny_servers.py <which monitor> ...`. Monitors print their messages to the test, one word or JSON value
on a line. The environment has the permissions and the boot: TINY_USERS, TINY_FILES, TINY_BOOT (a
`[boot]` as JSON), TINY_LATE (a file; when it exists, the account is reported as made), TINY_POSTAUTH (which postauth
processes; by default one that relays).
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

from pyssh_gateway.config.types import Boot, Config, Session
from pyssh_gateway.config.values import Duration
from pyssh_gateway.events import ServiceOutput
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.reread import Reread, decode
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.boot import steps
from pyssh_gateway.spawner.boot.progress import Booting, Step
from pyssh_gateway.spawner.child import NULL, Setup
from pyssh_gateway.spawner.crashes import Crash
from pyssh_gateway.spawner.hang_up import Terminal
from pyssh_gateway.spawner.links.outbox import STUCK_SECONDS
from pyssh_gateway.spawner.processes.server_process import RunMonitor, ServerProcesses
from pyssh_gateway.spawner.reload import Reloading
from pyssh_gateway.spawner.requests import Permissions
from pyssh_gateway.spawner.supervisor import Supervisor
from pyssh_gateway.startup.log_work import log_work
from pyssh_gateway.startup.serve import user_servers
from pyssh_gateway.system.descriptors import close_all
from tests.support import processes
from tests.support.tiny_processes import POSTAUTH, Asking, next_command, says_nothing
from tests.support.waiting import until

DRAIN = 0.3
"""The supervisor's drain time: with its margin, how long it waits before it kills a monitor that does not stop."""


def say(*words: object) -> None:
    """Print a line and flush it."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def signals_wake() -> int:
    """A descriptor to wait for signals with; it also has a signal that came just before the system call."""
    awake, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    return awake


def exits(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Exit at once with the code on the command line."""
    say("generation", generation)
    return int(sys.argv[2])


def crashes_at_first(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Crash in a different way in each generation, and at last print the crashes."""
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


def crashes_always(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Exit with an error in every generation."""
    say("generation", generation)
    return 9


def waits(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Wait for a stop signal, print its name, then exit."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: say(signal.Signals(number).name))
    awake = signals_wake()
    say("ready", os.getpid())
    os.read(awake, 1)
    say("stopping")
    return 0


def deaf(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Ignore every stop signal."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: say("ignored"))
    awake = signals_wake()
    say("ready", os.getpid())
    while True:
        os.read(awake, 1)


def asks(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Send the requests of the JSON file on the command line; print every report with what its descriptors contain.

    A `Spawn` is sent by a postauth process of the first of TINY_USERS.
    """
    requests = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[protocol.MonitorRequest | protocol.Spawn])
    user = os.environ["TINY_USERS"].split()[0]
    asking = Asking(control)
    if any(isinstance(request, protocol.Spawn) for request in requests):
        asking.begin_for(user)
    for request in requests:
        if isinstance(request, protocol.Spawn):
            asking.accounts[user].send(protocol.encode(request))
        else:
            asking.ask(request)
    running, waiting = 0, len(requests)
    held: list[int] = []
    while waiting or running:
        for who, said, descriptors in asking.hear():
            report, count = (said, len(descriptors)) if who == "spawner" else said
            waiting -= report["type"] not in {"exited", "news"}
            running += (report["type"] == "spawned") - (report["type"] == "exited")
            content = os.read(descriptors[0], 1000).decode() if report["type"] == "keys-opened" else ""
            say(json.dumps([report, count, content]))
            held += descriptors
    close_all(held)
    return 0


def obeys(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Follow the test's commands on standard input, each a JSON list on a line; print everything received.

    ["ask", request], ["tell", user, request], ["say", user, hex of a packet], ["send", hex of a packet to the spawner],
    ["note", text for the registry], ["noted"], ["descriptors"], ["end", code].
    """
    asking = Asking(control)
    say(json.dumps(["generation", generation, os.getpid()]))
    while True:
        ends = [0, control.fileno(), *(account.fileno() for account in asking.accounts.values())]
        if 0 in select.select(ends, [], [])[0]:
            match next_command():
                case ["ask", dict(request)]:
                    asking.ask(msgspec.json.decode(json.dumps(request), type=protocol.MonitorRequest))
                case ["tell", str(user), dict(request)]:
                    spawn = msgspec.json.decode(json.dumps(request), type=protocol.Spawn)
                    asking.accounts[user].send(protocol.encode(spawn))
                case ["say", str(user), str(packet)]:
                    asking.accounts[user].send(bytes.fromhex(packet))
                case ["send", str(packet)]:
                    control.send(bytes.fromhex(packet))
                case ["note", str(text)]:
                    os.pwrite(registry, text.encode(), 0)
                case ["noted"]:
                    say(json.dumps(["noted", os.pread(registry, 16, 0).rstrip(b"\0").decode()]))
                case ["descriptors"]:
                    say(json.dumps(["descriptors", processes.descriptors(os.getpid())]))
                case ["end", int(code)]:
                    return code
                case other:
                    sys.exit(f"no command: {other}")
        else:
            for who, said, descriptors in asking.hear():
                say(json.dumps([who, said, len(descriptors)]))


def leaves_unread(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Exit with an answer unread, and print a last word when the supervisor has noticed."""
    say("generation", generation)
    control.send(protocol.encode(protocol.AwaitAccount(1, "")))
    select.select([control], [], [])
    before = len(processes.descriptors(os.getppid()))
    control.close()
    until(lambda: len(processes.descriptors(os.getppid())) < before, what="look at what the monitor had to say")
    say("last word")
    return 0


def garbage(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Act as a compromised monitor and send an invalid message. The next generation only prints its number."""
    say("generation", generation)
    if generation == 1:
        control.send(b"\xff not a message")
        signal.pause()
    return 0


def asks_badly(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Send the bad request in the file on the command line. The next generation only prints its number."""
    say("generation", generation)
    if generation == 1:
        control.send(Path(sys.argv[2]).read_bytes())
        signal.pause()
    return 0


def reads_nothing(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Send requests until no more fit, and read no answer; exit at SIGTERM."""
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


def hears(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Print every event of the spawner; at a stop signal have the services stopped, then exit.

    On the command line: the file of requests to begin with; "crash" to crash once, when a service has written
    something; "leave" to exit then.
    """
    asking = Asking(control)
    requests = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[protocol.Spawn])
    if generation == 1 and requests:
        user = os.environ["TINY_USERS"].split()[0]
        asking.begin_for(user)
        for request in requests:
            asking.accounts[user].send(protocol.encode(request))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: control.send(protocol.encode(protocol.StopServices(7))))
    awake = signals_wake()
    say("generation", generation, os.getpid())
    while True:
        while control.fileno() not in select.select([control.fileno(), awake], [], [])[0]:
            os.read(awake, 1)
        packet, descriptors = protocol.receive(control)
        close_all(descriptors)
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


def rereads_and_asks(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """Like `rereads`, with a request as soon as the reader runs."""
    spawner = os.getppid()

    def ask() -> None:
        until(lambda: len(processes.descendants(spawner)) > 1, what="the reader")
        control.send(protocol.encode(protocol.AwaitAccount(3, "")))

    threading.Thread(target=ask).start()
    return rereads(control, generation, crashes, registry)


def rereads(control: socket.socket, generation: int, crashes: tuple[Crash, ...], registry: int) -> int:
    """After each reading of the configuration, print its result, and whether `drain-N` may log in."""
    say("ready")
    while True:
        packet, descriptors = protocol.receive(control)
        if not packet:
            return 0
        match protocol.decode_report(packet):
            case protocol.Refused(id=3):
                say("asked and answered")
            case protocol.Reread():
                control.send(protocol.encode(protocol.TakeConfig(1)))
            case protocol.Opened():
                outcome = decode(os.pread(descriptors[0], 1 << 20, 0))
                drain = None if outcome.config is None else outcome.config.stop.drain
                say(json.dumps([drain, outcome.changed, outcome.problems]))
                control.send(protocol.encode(protocol.StartPostauth(2, f"drain-{sys.argv[2]}")))
            case protocol.Refused(reason=reason):
                say(reason)
        close_all(descriptors)


MONITORS: dict[str, RunMonitor] = {
    monitor.__name__: monitor
    for monitor in (
        *(exits, crashes_at_first, crashes_always, waits, deaf, asks, asks_badly, reads_nothing, leaves_unread),
        *(garbage, hears, obeys, rereads, rereads_and_asks),
    )
}


def main(arguments: Sequence[str]) -> int:
    """Run the monitor that the command line names, with the arguments after it."""
    users = frozenset(os.environ.get("TINY_USERS", "").split())
    files = dict.fromkeys(os.environ.get("TINY_FILES", "").split(), users)
    wanted = msgspec.json.decode(os.environ.get("TINY_BOOT", "{}"), type=Boot, dec_hook=lambda kind, value: kind(value))
    late = os.environ.get("TINY_LATE")
    booting = begin_late(Path(late)) if late else steps.begin(wanted, users)
    return Supervisor(
        ServerProcesses(
            MONITORS[arguments[1]],
            says_nothing,
            POSTAUTH[os.environ.get("TINY_POSTAUTH", "relays")],
            run_recorder=says_nothing,
            import_ssh=lambda: None,
            monitor_keeps=frozenset,
        ),
        Permissions(users, files),
        DRAIN,
        user_servers=user_servers(),
        terminal=Terminal(),
        reloading=reloading(users),
        log_work=log_work(Path("/nowhere")),
        services=wanted.service,
        booting=booting,
    ).run()


def reloading(users: frozenset[str]) -> Reloading:
    """Reads a drain time from the file named by TINY_CONFIG; if that is a FIFO, the reader blocks."""
    path = Path(os.environ.get("TINY_CONFIG", "/nowhere"))

    def read(in_force: Config) -> Reread:
        stop = msgspec.structs.replace(in_force.stop, drain=Duration(path.read_text()))
        return Reread(msgspec.structs.replace(in_force, stop=stop), changed=("stop.drain",))

    return Reloading(
        Config(session=Session(update_motd=False)),  # this machine's own scripts would be run as root
        read=read,
        permissions_of=lambda config: Permissions(users | {f"drain-{config.stop.drain:g}"}, {}),
    )


def begin_late(path: Path) -> Booting:
    """A boot whose only step waits for the file `path`, and then reports the account of TINY_USERS as made."""
    ours, theirs = protocol.socket_pair()
    user, parent = os.environ["TINY_USERS"], os.getpid()

    def work() -> int:
        with socket.socket(fileno=3) as reports:
            while not path.exists() and os.getppid() == parent:
                time.sleep(0.01)
            reports.send(msgspec.msgpack.encode(Step("late", "ok", user)))
        return 0

    pid = child.start(Setup(descriptors=(NULL, NULL, NULL, theirs.fileno())), work)
    theirs.close()
    return Booting(pid, ours, frozenset({user}))


if __name__ == "__main__":
    sys.exit(main(sys.argv))

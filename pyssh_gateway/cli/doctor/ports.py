"""The addresses and ports: whether a server could listen there, and which process does now."""

import errno
from collections.abc import Callable, Collection, Iterator, Sequence

from pyssh_gateway.cli.doctor.finding import Finding, note, ok, problem, unknown
from pyssh_gateway.cli.doctor.listeners import Listener, listeners_at, name_of_process
from pyssh_gateway.config.source import Endpoint, shown_endpoint
from pyssh_gateway.config.types import Config
from pyssh_gateway.startup.listening import endpoints_in, unavailable

TOPIC = "ports"

SERVICE_MANAGER = 1
"""The pid of systemd, where it is the service manager: it holds the port of a socket unit."""

FIRST_UNPRIVILEGED = 1024

ANY = frozenset({"0.0.0.0", "::"})
"""The addresses that stand for all addresses of the machine."""

Listeners = Callable[[int], Sequence[Listener]]


def look_at_ports(config: Config, own: Collection[int], *, listeners: Listeners = listeners_at) -> Iterator[Finding]:
    """A finding for each address to listen on; `own` are the processes of the running server, if any."""
    endpoints = endpoints_in(config)
    taken = unavailable(endpoints)
    for endpoint in endpoints:
        shown = shown_endpoint(*endpoint)
        error = taken.get(endpoint)
        if error is None:
            yield ok(TOPIC, f"{shown} is free")
        elif error.errno == errno.EADDRINUSE:
            yield _taken(
                endpoint, own, [each for each in listeners(endpoint[1]) if _overlap(each.address, endpoint[0])]
            )
        else:
            yield _refused(endpoint, error)


def _overlap(one: str, other: str) -> bool:
    """Whether these addresses conflict: only one of two sockets can listen there on the same port."""
    return one == other or not ANY.isdisjoint({one, other})


def _taken(endpoint: Endpoint, own: Collection[int], found: Sequence[Listener]) -> Finding:
    shown = shown_endpoint(*endpoint)
    pids = {pid for listener in found for pid in listener.pids}
    if pids & set(own):
        return ok(TOPIC, f"the server that runs listens on {shown}")
    if SERVICE_MANAGER in pids and name_of_process(SERVICE_MANAGER) == "systemd":
        hint = "if that is pyssh-gateway.socket, all is well: systemctl list-sockets shows whose it is"
        return note(TOPIC, f"systemd holds {shown} for a socket unit, and passes it to what it starts", hint)
    remedy = "stop it, or set listen.port or listen.address to another one"
    if not pids:
        seen = f"of the account with uid {found[0].uid}" if found else "that can't be seen from here"
        text = f"another program {seen} listens on {shown}"
        if own:  # the running server may belong to another account, whose sockets we can't tell apart
            return unknown(TOPIC, text, "run this as root to see whether it is the server that runs")
        return problem(TOPIC, text, f"run this as root to see which; {remedy}")
    names = sorted({f"{name_of_process(pid)} (process {pid})" for pid in pids})
    if any(name.startswith("sshd ") for name in names) and endpoint[1] == 22:
        remedy = "see Port 22 in docs/platforms.md for the way over from sshd, or set listen.port to another one"
    return problem(TOPIC, f"{' and '.join(names)} listens on {shown}", remedy)


def _refused(endpoint: Endpoint, error: OSError) -> Finding:
    shown = shown_endpoint(*endpoint)
    text = f"nothing can listen on {shown}: {error.strerror}"
    if error.errno in {errno.EACCES, errno.EPERM} and endpoint[1] < FIRST_UNPRIVILEGED:
        return problem(TOPIC, text, f"start the server as root, or set listen.port to {FIRST_UNPRIVILEGED} or above")
    if error.errno == errno.EADDRNOTAVAIL:
        return problem(
            TOPIC, text, "set listen.address to an address that this machine has (ip address), or to 0.0.0.0"
        )
    return problem(TOPIC, text, "set listen.address or listen.port to another one")

"""The running server: whether it is this version, has this configuration, and answers where clients connect."""

import socket
import time
from collections.abc import Collection, Iterator

from pyssh_gateway import __version__
from pyssh_gateway.cli.configuration.lookup import Lookup
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.doctor.finding import Finding, note, ok, problem, unknown, warning
from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.request import NoServer, ask
from pyssh_gateway.cli.server_socket import Places
from pyssh_gateway.config.source import ConfigError, Endpoint, shown_endpoint
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.control import Status, StatusReply
from pyssh_gateway.startup.listening import endpoints_in

TOPIC = "server"

GREETING = b"SSH-2.0-"
"""The first bytes of every SSH server (RFC 4253 section 4.2)."""

GREETING_SECONDS = 5.0
"""Timeout in seconds: the server sends them at once, to every client that is not refused."""

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The addresses at which this machine reaches a server that listens on all of them."""


def look_at_server(context: Context, found: Lookup, own: Collection[int]) -> Iterator[Finding]:
    """Findings about the running server, if there is one; `own` are its processes, as far as they are known.

    Without them the ports are not tried: where systemd listens, a connection would start the server.
    """
    try:
        where = context.places if found.server is None else Places(found.server.path, ())
        status = ask(where, Status(), StatusReply).reply
    except NoServer as error:
        hint = "start it: systemctl start pyssh-gateway.socket, or pyssh-gateway serve"
        yield note(TOPIC, f"none runs that could be asked ({error})", hint)
        return
    except ConfigError:  # reported already; without a configuration we don't know where a server listens
        return
    except Failed as error:
        yield unknown(TOPIC, str(error), "run this as root, or as the account that started the server")
        return
    yield ok(TOPIC, f"version {status.version} runs, process {status.pid}")
    if status.version != __version__:
        hint = "restart it when nobody is on: systemctl restart pyssh-gateway"
        yield warning(TOPIC, f"this program is {__version__}, the server that runs is {status.version}", hint)
    if not found.in_force:
        hint = f"kill -HUP {found.pid} has it read again; its log says what needs a restart"
        yield warning(TOPIC, "it has another configuration in force than there is now", hint)
    for source in status.sources:
        failure = source.failure or "what it has of it is too old"
        yield warning(TOPIC, f"{source.spec}: {failure}", "pyssh-gateway keys refresh asks again, and says more")
    if own and found.config is not None:
        yield from _greetings(found.config)


def _greetings(config: Config) -> Iterator[Finding]:
    """Whether the server answers at each address, tried as a client."""
    if config.listen.proxy_protocol != "off":
        return  # it expects a PROXY header from a trusted proxy, which we are not
    for endpoint in endpoints_in(config):
        if endpoint[1] != 0:
            yield _greeting(endpoint)


def _greeting(endpoint: Endpoint) -> Finding:
    shown = shown_endpoint(*endpoint)
    try:
        said = _first_words(endpoint)
    except OSError as error:
        hint = "see its log; if it listens on sockets of systemd's, those are what counts: systemctl list-sockets"
        return problem(TOPIC, f"nobody can connect to {shown}: {error.strerror or error}", hint)
    if said.startswith(GREETING):
        return ok(TOPIC, f"it answers at {shown}")
    hint = "this machine may be refused for a while (docs/security.md, Strangers), or another program answers"
    return problem(TOPIC, f"what answers at {shown} does not begin as SSH does", hint)


def _first_words(endpoint: Endpoint) -> bytes:
    """The first bytes that the server sends to a client. Raises OSError."""
    address, port = endpoint
    until = time.monotonic() + GREETING_SECONDS
    said = b""
    with socket.create_connection((LOOPBACK.get(address, address), port), GREETING_SECONDS) as sock:
        while len(said) < len(GREETING):
            sock.settimeout(max(0.001, until - time.monotonic()))
            received = sock.recv(256)
            if not received:
                break
            said += received
    return said

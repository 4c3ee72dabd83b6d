"""The servers that answer on this machine: people's commands, and Prometheus."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.monitor.in_force import InForce
from pyssh_gateway.monitor.reporting.control import ControlServer
from pyssh_gateway.monitor.reporting.reports import Reporter

if TYPE_CHECKING:
    from pyssh_gateway.monitor.reporting.metrics import MetricsServer


class Answering:
    """Makes both servers, which answer from what `reporter` knows. `owner` is the account that started the server."""

    def __init__(self, reporter: Reporter, in_force: InForce, owner: int, bus: EventBus) -> None:
        self._reporter = reporter
        self._in_force = in_force
        self._owner = owner
        self._bus = bus
        self._control: ControlServer | None = None

    def people(self, listening: socket.socket) -> ControlServer:
        """The server that answers people on the machine at a socket."""
        self._control = ControlServer(
            listening,
            handlers=self._reporter.handlers,
            owner=self._owner,
            users=set(self._in_force.rules),
            publish=self._bus.publish,
        )
        return self._control

    def reconfigure(self) -> None:
        """Answer the accounts that may log in by now."""
        if self._control is not None:
            self._control.reconfigure(self._reporter.handlers, set(self._in_force.rules))

    def programs(self, audit: AuditLog) -> "Callable[[socket.socket], MetricsServer]":
        """A function that makes the metrics server at a socket; events are counted from now on."""
        from pyssh_gateway.monitor.reporting.figures import Figures, exposition  # late: few want them
        from pyssh_gateway.monitor.reporting.metrics import MetricsServer

        reporter, bus = self._reporter, self._bus
        figures = Figures(
            registry=reporter.registry,
            idle=reporter.idle,
            sources=reporter.keyring.describe,
            log=audit,
            awake=lambda: reporter.awake.seconds,
            for_nobody=lambda: reporter.for_nobody.summary().total,
            now=reporter.now,
        )
        bus.subscribe(figures.observe)

        async def render() -> bytes:
            await reporter.registry.look()
            return exposition(figures.families())

        return lambda listening: MetricsServer(listening, render=render, publish=bus.publish)

"""The sinks that the configuration asks for, as one."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from pyssh_gateway.audit.sinks.sink import CLOSE_SECONDS, Receiver, Sink
from pyssh_gateway.config.types import Audit


class Sinks:
    """Sinks by their names in the figures. They get every line, whichever of them works."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)

    @classmethod
    def of(cls, config: Audit, on_problem: Callable[[str], None]) -> Self:
        """Those that `config` asks for. Imports their protocols, so the process has to be able to read its code."""
        return cls({name: Sink(receiver, on_problem) for name, receiver in receivers(config).items()})

    def offer(self, line: bytes) -> None:
        """Queue `line` for each of them. Never blocks."""
        for sink in self._sinks.values():
            sink.offer(line)

    @property
    def lost(self) -> dict[str, int]:
        """How many lines have not been delivered, for each sink."""
        return {name: sink.lost for name, sink in self._sinks.items()}

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Give all of them together at most `timeout` seconds for what waits."""
        sinks: Sequence[Sink] = tuple(self._sinks.values())
        for sink in sinks:
            sink.begin_to_close()
        end = time.monotonic() + timeout
        for sink in sinks:
            sink.close(max(0.0, end - time.monotonic()))


def receivers(config: Audit) -> dict[str, Receiver]:
    """Those that `config` asks for, by their names in the figures. Nothing is connected yet."""
    found: dict[str, Receiver] = {}
    if config.syslog != "off":
        from pyssh_gateway.audit.sinks.syslog import Syslog

        found["syslog"] = Syslog(config.syslog)
    if config.otlp:
        from pyssh_gateway.audit.sinks.otlp import Otlp

        found["otlp"] = Otlp(config.otlp, config.otlp_headers)
    return found

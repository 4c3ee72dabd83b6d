"""The collectors to which events are sent, too: whether they can be reached from here."""

from collections.abc import Iterator

from pyssh_gateway.audit.sinks.configured import receivers
from pyssh_gateway.audit.sinks.sink import Unreachable, reason
from pyssh_gateway.cli.doctor.finding import Finding, ok, warning
from pyssh_gateway.config.types import Config

TOPIC = "collectors"


def look_at_collectors(config: Config) -> Iterator[Finding]:
    """Connect to each, and send nothing."""
    for receiver in receivers(config.audit).values():
        try:
            receiver.connect()
        except (OSError, Unreachable) as error:
            hint = "events wait for it, and some are lost there if that lasts; the log's file has all of them"
            yield warning(TOPIC, f"{receiver.name} can't be reached: {reason(error)}", hint)
        else:
            yield ok(TOPIC, f"events are sent by {receiver.name}, which can be reached")
        finally:
            receiver.close()

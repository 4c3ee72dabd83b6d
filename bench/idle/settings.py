"""Our settings as they stand on the command line: `timeout=5m client_idle=30m action=suspend`.

The keys are those of `[idle]`, with their defaults, and `action`, of `[stop]`: "exit" or "suspend". Without it, both
are simulated.
"""

from typing import Literal, NamedTuple

from pyssh_gateway.config import parser as config
from pyssh_gateway.config.source import RawConfig
from pyssh_gateway.core.idle.replay.server import Rules, rules_of

Action = Literal["exit", "suspend"]

ACTIONS: tuple[Action, ...] = ("exit", "suspend")


class Settings(NamedTuple):
    """Settings under a name, and how the machine may stop."""

    name: str
    rules: Rules
    actions: tuple[Action, ...]


def parse(text: str) -> Settings:
    """Parse the settings. Raises ConfigError or ValueError with what is wrong."""
    given: dict[str, object] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word}: write a setting as key=value")
        given[key] = int(value) if value.isdigit() else value
    action = given.pop("action", None)
    actions = tuple(each for each in ACTIONS if action in (None, each))
    if not actions:
        raise ValueError(f"action={action}: exit or suspend")
    idle = config.parse(RawConfig({"idle": given}, {}, None)).idle
    name = " ".join(word for word in text.split() if not word.startswith("action="))
    return Settings(name or "our defaults", rules_of(idle), actions)

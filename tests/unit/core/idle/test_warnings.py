"""core.idle.warnings: what a warning says to programs, and what it keeps from the log."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.warnings import KEEP_UP, MAX_PEOPLE, StopWarning, environment, name_of, webhook_body


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789/?=&#@:.", min_size=1), st.sampled_from(["/", "?", "#"]))
def test_a_web_address_is_named_without_its_secrets(secret: str, separator: str) -> None:
    """Protects a webhook's token: of an address only scheme and host are named."""
    assert name_of(f"https://hooks.example:8443{separator}{secret}") == "https://hooks.example:8443"
    assert "@" not in name_of(f"https://{secret}@hooks.example/x")


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("TOKEN=secret curl -H secret https://hooks.example/secret", "curl"),
        ("TOKEN=secret", "a command"),
    ],
)
def test_a_command_is_named_by_its_program(entry: str, name: str) -> None:
    """Protects secrets in commands, and names entries so that they can be told apart."""
    assert name_of(entry) == name


@given(st.lists(st.text()))
def test_the_environment_is_visible_text(people: list[str]) -> None:
    """Protects commands from names that people chose: a line each, of visible characters, and not too many."""
    found = environment(60, tuple(people))
    assert set(found) == {"PYSSH_STOPS_IN", "PYSSH_STOP_REASON", "PYSSH_PEOPLE"}
    assert found["PYSSH_STOPS_IN"] == "60"
    lines = found["PYSSH_PEOPLE"].split("\n")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == max(1, min(len(people), MAX_PEOPLE))


def test_a_webhook_gets_the_facts_and_a_sentence() -> None:
    """Protects programs that read the JSON, and people who read its text in a chat."""
    told = json.loads(webhook_body(StopWarning("box", 60, ("github:example",))))
    assert told.pop("text") == f"Nobody is using box; it stops in 60 s. {KEEP_UP}"
    assert told.pop("keep_up") == KEEP_UP
    assert told == {
        "event": "stop.warning",
        "machine": "box",
        "reason": "idle",
        "stops_in": 60,
        "people": ["github:example"],
    }

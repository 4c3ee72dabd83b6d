"""core.idle.explain: what people read about why the machine is awake."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pyssh_gateway.config.types import Idle
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.idle.explain import LastLogin, countdown, greeting, policy, stop_reason, time_span
from pyssh_gateway.events import Identity

BERLIN = timezone(timedelta(hours=1), "CET")
NOW = datetime(2026, 11, 22, 16, 30, tzinfo=BERLIN)
AMOS = Identity("github:example", 583231, "SHA256:x")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (59.9, "59s"), (60.0, "1m"), (3725.0, "1h2m"), (86400.0 + 3 * 3600 + 59, "1d3h")],
)
def test_times_are_short(seconds: float, text: str) -> None:
    """Protects readers: times are as exact as a person would say, and are rounded down."""
    assert time_span(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(70.9, "1m10s"), (599.0, "9m59s"), (659.0, "10m"), (3725.0, "1h2m")])
def test_what_is_left_is_counted_to_the_second(seconds: float, text: str) -> None:
    """Protects a reader who wants to log in before the stop: "1m" may not be nearly two."""
    assert countdown(seconds) == text


@pytest.mark.parametrize(
    ("idle", "text"),
    [
        (Idle(client_idle=None, background="ignore"), "It stops 2m after the last client has gone."),
        (Idle(timeout=None), "It does not stop by itself."),
        (
            Idle(timeout=Duration(300), client_idle=Duration(1800), background="ignore"),
            "It stops 5m after the last client has gone, or has not been used for 30m.",
        ),
        (
            Idle(schedule=("mon-fri 08:00-18:00", "sat 09:00-12:00"), timezone="Europe/Berlin"),
            (
                "It stops 2m after the last client has gone, or has not been used for 20m. "
                "What sessions leave running keeps it up while it works, for 12h at most. "
                "It stays up mon-fri 08:00-18:00, sat 09:00-12:00 (Europe/Berlin)."
            ),
        ),
    ],
)
def test_the_policy_is_said_in_words(idle: Idle, text: str) -> None:
    """Protects people from surprises: the policy that they read is the configured one."""
    assert policy(idle) == text


@pytest.mark.parametrize(
    ("reason", "detail", "text"),
    [
        ("idle", "woken by 203.0.113.9, no login", "woken by 203.0.113.9, no login"),
        ("idle", "", "idle"),
        ("signal", "SIGTERM", "told to stop (SIGTERM)"),
        ("signal", "", "told to stop"),
    ],
)
def test_an_earlier_stop_is_explained(reason: str, detail: str, text: str) -> None:
    """Protects people who ask why the machine was off."""
    assert stop_reason(reason, detail) == text


def greeted(
    *, awake: float = 11_520.0, woken_by: str = "203.0.113.9", last: LastLogin | None = None, who: Identity = AMOS
) -> list[str]:
    """The lines of the greeting."""
    text = greeting(
        now=NOW, since=NOW - timedelta(seconds=awake), woken_by=woken_by, policy="It stops.", who=who, last=last
    )
    assert text.endswith(b"\n")
    return text.decode().splitlines()


def test_a_login_is_greeted() -> None:
    """Protects the banner: awake since when, woken by whom, until when, and the person's last login in local time."""
    last = LastLogin(datetime(2026, 11, 21, 17, 2, tzinfo=UTC).timestamp(), "2001:db8::7")
    assert greeted(last=last) == [
        "Awake for 3h12m, woken by 203.0.113.9.",
        "It stops.",
        "Last login of github:example: Sat Nov 21 18:02 CET 2026 from 2001:db8::7",
    ]


def test_the_first_login_is_said_to_be_the_first() -> None:
    """Protects people whose key somebody else has used: only a first login is called the first."""
    assert greeted(awake=2.0, woken_by="") == [
        "Just started.",
        "It stops.",
        "This is the first login of github:example that is known.",
    ]
    assert greeted(awake=-5.0)[0] == "Just started, woken by 203.0.113.9."


def test_no_name_acts_on_a_terminal() -> None:
    """Protects the screen: control characters in a certificate's person are replaced."""
    (_, _, line) = greeted(who=Identity("ca:\x1b[2J\udcff", None, "SHA256:x"))
    assert line == "This is the first login of ca:?[2J? that is known."

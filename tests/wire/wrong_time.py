"""Every message at every moment, and its outcome at any server.

A `Situation` is a moment in the life of a connection. `react` sends one message in it, and then a `probe` that every
server answers with the probe's number: everything before that answer is the message's outcome.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import asyncssh

from tests.wire.bare import (
    CLOSED,
    DEBUG,
    DISCONNECT,
    EXT_INFO,
    NEWKEYS,
    PLAIN_KEX,
    UNIMPLEMENTED,
    USERAUTH_REQUEST,
    BareClient,
    Message,
)
from tests.wire.plain import kexinit, text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EOF,
    CHANNEL_OPEN,
    CHANNEL_REQUEST,
    EXTENDED_DATA,
    GLOBAL_REQUEST,
    OPEN_CONFIRMATION,
    USERAUTH_FAILURE,
    WINDOW_ADJUST,
    u32,
)

UNKNOWN, UNKNOWN_BEFORE_KEYS = 150, 19
"""Messages without a meaning (RFC 4250 section 4.1.1), for probes. Before there are keys, sshd answers only below 50;
before 9.5 it disconnects from 192 on."""

NUMBERS = (*range(102), *range(126, 130), 150, *range(189, 196), 200, 254, 255)
"""Every message with a meaning, and of the others those at the ends of a range, and one inside."""

OF_CHANNELS = tuple(range(80, 102))
"""Messages for which the channel's state matters."""

BY_THEMSELVES = frozenset(
    {
        DEBUG,
        EXT_INFO,
        GLOBAL_REQUEST,
        WINDOW_ADJUST,
        CHANNEL_DATA,
        EXTENDED_DATA,
        CHANNEL_EOF,
        CHANNEL_CLOSE,
        CHANNEL_REQUEST,
    }
)
"""Messages that servers may send at any time; they answer nothing."""

DISCONNECTED = "disconnected"
IGNORED = "ignored"
UNKNOWN_CHANNEL = 77


class Place(NamedTuple):
    """A server, and the account and key that can log in to it."""

    port: int
    login: str
    key: asyncssh.SSHKey


class Moment:
    """A client that has reached the situation, and the channel that its messages name."""

    def __init__(self, client: BareClient, place: Place) -> None:
        self.client = client
        self.place = place
        self.channel = UNKNOWN_CHANNEL
        self.process = 0


Prepare = Callable[[Moment], None]


class Situation(NamedTuple):
    """A moment in the life of a connection: how to get there, from the identification lines on."""

    name: str
    prepare: Prepare
    probe: int = UNKNOWN
    strict: bool = False
    numbers: tuple[int, ...] = NUMBERS


def _greeted(moment: Moment) -> None:
    moment.client.hear_kexinit()


def _kexinit_sent(moment: Moment) -> None:
    _greeted(moment)
    moment.client.say_kexinit()


def _reply_heard(moment: Moment) -> None:
    _kexinit_sent(moment)
    moment.client.say_init()
    moment.client.hear_reply()


def _keyed(moment: Moment) -> None:
    moment.client.exchange_keys()


def _service_granted(moment: Moment) -> None:
    _keyed(moment)
    moment.client.ask_for_service()


def _refused_once(moment: Moment) -> None:
    _service_granted(moment)
    request = text(moment.place.login.encode()) + text(b"ssh-connection") + text(b"none")
    moment.client.say(USERAUTH_REQUEST, request)
    moment.client.hear_until(USERAUTH_FAILURE)


def _authenticated(moment: Moment) -> None:
    _service_granted(moment)
    moment.client.authenticate(moment.place.login, moment.place.key)


def _rekeying(moment: Moment) -> None:
    _authenticated(moment)
    moment.client.say_kexinit()
    moment.client.hear_kexinit()


def _rekeyed(moment: Moment) -> None:
    _authenticated(moment)
    moment.client.exchange_keys()


def _session_open(moment: Moment) -> None:
    _authenticated(moment)
    moment.client.say(CHANNEL_OPEN, text(b"session") + u32(3, 1 << 20, 32768))
    moment.channel = int.from_bytes(moment.client.hear_until(OPEN_CONFIRMATION).payload[4:8], "big")


def _running(moment: Moment) -> None:
    _session_open(moment)
    command = text(b"echo $$; exec sleep 1000")
    moment.client.say(CHANNEL_REQUEST, u32(moment.channel) + text(b"exec") + b"\0" + command)
    moment.process = int(moment.client.hear_until(CHANNEL_DATA).payload[8:])


def _half_closed(moment: Moment) -> None:
    _running(moment)
    moment.client.say(CHANNEL_EOF, u32(moment.channel))


def _ended(moment: Moment) -> None:
    _session_open(moment)
    moment.client.say(CHANNEL_REQUEST, u32(moment.channel) + text(b"exec") + b"\0" + text(b"true"))
    moment.client.hear_until(CHANNEL_CLOSE)


def _gone(moment: Moment) -> None:
    _ended(moment)
    moment.client.say(CHANNEL_CLOSE, u32(moment.channel))


SITUATIONS = {
    situation.name: situation
    for situation in (
        Situation("before KEXINIT", _greeted, probe=UNKNOWN_BEFORE_KEYS),
        Situation("after KEXINIT", _kexinit_sent, probe=UNKNOWN_BEFORE_KEYS),
        Situation("after KEXINIT, strict", _kexinit_sent, probe=UNKNOWN_BEFORE_KEYS, strict=True),
        Situation("before NEWKEYS", _reply_heard, probe=UNKNOWN_BEFORE_KEYS),
        Situation("before NEWKEYS, strict", _reply_heard, probe=UNKNOWN_BEFORE_KEYS, strict=True),
        Situation("before the service", _keyed),
        Situation("before the service, strict", _keyed, strict=True),
        Situation("before authentication", _service_granted),
        Situation("during authentication", _refused_once),
        Situation("authenticated", _authenticated),
        Situation("rekeying", _rekeying),
        Situation("rekeyed, strict", _rekeyed, strict=True),
        Situation("session open", _session_open, numbers=OF_CHANNELS),
        Situation("command running", _running, numbers=OF_CHANNELS),
        Situation("after EOF", _half_closed, numbers=OF_CHANNELS),
        Situation("closed by the server", _ended, numbers=OF_CHANNELS),
        Situation("closed by both", _gone, numbers=OF_CHANNELS),
    )
}


def payload(number: int, moment: Moment) -> bytes:
    """Well-formed fields for a message, so that only its time is wrong."""
    channel = u32(moment.channel)
    known = {
        1: u32(11) + text(b"bye") + text(b""),
        2: text(b"ignore"),
        3: u32(0),
        4: b"\0" + text(b"debug") + text(b""),
        5: text(b"ssh-userauth"),
        6: text(b"ssh-userauth"),
        7: u32(0),
        20: kexinit(kex=PLAIN_KEX)[1:],
        21: b"",
        30: text(b"\x09" + bytes(31)),
        31: text(b"key") + text(b"\x09" + bytes(31)) + text(b"signature"),
        50: text(moment.place.login.encode()) + text(b"ssh-connection") + text(b"none"),
        51: text(b"publickey") + b"\0",
        52: b"",
        53: text(b"banner") + text(b""),
        60: text(b"ssh-ed25519") + text(moment.place.key.public_data),
        61: u32(0),
        80: text(b"nonsense@example.com") + b"\1",
        81: b"",
        82: b"",
        90: text(b"nonsense@example.com") + u32(9, 1000, 1000),
        91: channel + u32(3, 1000, 1000),
        92: channel + u32(1) + text(b"no") + text(b""),
        93: channel + u32(1000),
        94: channel + text(b"data"),
        95: channel + u32(1) + text(b"data"),
        96: channel,
        97: channel,
        98: channel + text(b"nonsense@example.com") + b"\1",
        99: channel,
        100: channel,
        192: text(b"ping"),
        193: text(b"pong"),
    }
    return known.get(number, text(b"whatever"))


@contextmanager
def arrived(place: Place, situation: Situation) -> Iterator[Moment]:
    """A client in the situation; a process that it has started ends with it."""
    with BareClient(place.port, strict=situation.strict) as client:
        moment = Moment(client, place)
        try:
            situation.prepare(moment)
            yield moment
        finally:
            if moment.process:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(moment.process, signal.SIGKILL)


def react(moment: Moment, situation: Situation, number: int, fields: bytes) -> str:
    """Send one message and return its outcome: `IGNORED`, `DISCONNECTED`, or the numbers of the answers."""
    moment.client.say(number, fields)
    probe = moment.client.say(situation.probe)
    heard: list[int] = []
    while True:
        message = moment.client.hear()
        if message.number in {CLOSED, DISCONNECT}:
            return DISCONNECTED
        if _answers(message, probe):
            break
        if message.number not in BY_THEMSELVES:
            heard.append(message.number)
        if message.number == NEWKEYS:  # the test does not compute these keys, so it can't read the rest
            break
    return "answered with " + ", ".join(map(str, heard)) if heard else IGNORED


def _answers(message: Message, probe: int) -> bool:
    return message.number == UNIMPLEMENTED and int.from_bytes(message.payload[:4], "big") == probe


def outcomes(place: Place, situation: Situation) -> dict[int, str]:
    """The outcome of each message. A connection goes on to the next one only after UNIMPLEMENTED alone."""
    found: dict[int, str] = {}
    numbers = iter(situation.numbers)
    number = next(numbers, None)
    while number is not None:
        with arrived(place, situation) as moment:
            while number is not None:
                outcome = found[number] = react(moment, situation, number, payload(number, moment))
                number = next(numbers, None)
                if outcome != f"answered with {UNIMPLEMENTED}":
                    break
    return found

"""Every message at every moment, sent to a real sshd and to us: we tolerate everything that sshd tolerates."""

import os
from collections.abc import Iterator

import asyncssh
import pytest

from bench.servers import CannotBench
from tests.conftest import KeyPair
from tests.support.server import Server
from tests.support.sshd import Sshd, sshd
from tests.wire.bare import PING, PONG
from tests.wire.plain import text
from tests.wire.raw import CHANNEL_SUCCESS, GLOBAL_REQUEST, REQUEST_FAILURE
from tests.wire.wrong_time import (
    IGNORED,
    SITUATIONS,
    Place,
    arrived,
    outcomes,
    react,
)

REFUSED = "answered with 3"

WITHOUT_KEYS = frozenset(name for name in SITUATIONS if " KEXINIT" in name or " NEWKEYS" in name)
LOGGED_IN = frozenset(SITUATIONS) - {name for name in SITUATIONS if name.startswith(("before", "during", "after KEX"))}


def on_purpose(situation: str, number: int) -> str | None:
    """Our outcome where it differs from some version of sshd, with the reason beside it."""
    if situation in WITHOUT_KEYS:
        if number in {PING, PONG} and not situation.endswith("strict"):
            return IGNORED  # as OpenSSH since 9.5, which first knew both messages
        return None
    if number == PING:  # the same; before authentication, and while keys are exchanged, it is ignored
        return "answered with 193" if situation in LOGGED_IN - {"rekeying"} else IGNORED
    if number == PONG:
        return IGNORED
    if number > PONG:
        return REFUSED  # RFC 4253 section 11.4, as OpenSSH does since 9.5; before, it disconnected from 192 on
    if number == 50 and situation in LOGGED_IN:
        return IGNORED  # RFC 4252 section 5.1: silently ignored. sshd says UNIMPLEMENTED
    if number == 7 and situation.startswith("before the service"):
        return IGNORED  # RFC 8308 section 2.3: it may be sent now. sshd accepts it from clients since 9.6
    if number in {61, 63} and situation == "during authentication":
        return REFUSED  # sshd's table has NULL there, meant for authentication methods that we do not have
    if situation == "rekeying":
        return BEFORE_NEWKEYS.get(number)
    return None


BEFORE_NEWKEYS = dict.fromkeys((80, 81, 82, 90, 93, 99, 100), IGNORED)
"""Between its KEXINIT and its NEWKEYS a client may send none of these (RFC 4253 section 7.1). We serve them, and
answer after the exchange, as OpenSSH does up to 10.3; 10.4 disconnects."""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, user_key: KeyPair) -> Iterator[Sshd]:
    """A real sshd."""
    try:
        with sshd(tmp_path_factory.mktemp("sshd"), user_key.public) as running:
            yield running
    except CannotBench as error:
        pytest.skip(str(error))


@pytest.mark.soak
@pytest.mark.parametrize("name", SITUATIONS)
def test_messages_at_a_wrong_time(name: str, server: Server, real: Sshd, user_key: KeyPair) -> None:
    """We tolerate all clients that sshd tolerates: a message has the same outcome, or one that `on_purpose` lists."""
    key = asyncssh.read_private_key(user_key.private)
    mark = server.mark()
    theirs = outcomes(Place(real.port, real.login, key), SITUATIONS[name])
    ours = outcomes(Place(server.port, server.login, key), SITUATIONS[name])
    expected = {number: on_purpose(name, number) or theirs[number] for number in theirs}
    assert {number: ours[number] for number in ours if ours[number] != expected[number]} == {}
    assert not server.find("internal.error", mark)


def test_an_answer_to_nothing_is_passed_over(server: Server, user_key: KeyPair) -> None:
    """phpseclib answers `hostkeys-00@openssh.com`, which wants no reply, with a failure; its connection goes on."""
    place = Place(server.port, server.login, asyncssh.read_private_key(user_key.private))
    with arrived(place, SITUATIONS["authenticated"]) as moment:
        moment.client.hear_until(GLOBAL_REQUEST)
        assert react(moment, SITUATIONS["authenticated"], REQUEST_FAILURE, b"") == IGNORED
        assert react(moment, SITUATIONS["authenticated"], CHANNEL_SUCCESS, b"") == IGNORED


def test_ping_is_offered_and_answered(server: Server, user_key: KeyPair) -> None:
    """OpenSSH's client hides the timing of keystrokes only if the server supports ping (PROTOCOL section 1.9)."""
    place = Place(server.port, server.login, asyncssh.read_private_key(user_key.private))
    with arrived(place, SITUATIONS["authenticated"]) as moment:
        (told,) = (message.payload for message in moment.client.heard if message.number == 7)
        assert text(b"ping@openssh.com") + text(b"0") in told
        for data in (b"", b"keystroke", os.urandom(1000)):
            moment.client.say(PING, text(data))
            assert moment.client.hear_until(PONG).payload == text(data)

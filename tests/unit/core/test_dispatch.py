"""Which message is served when: what must never happen. tests/wire/test_wrong_time.py compares it with sshd."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core import dispatch
from pyssh_gateway.core.dispatch import Moment, Route, route

FLAGS = st.booleans()
MOMENTS = st.builds(
    Moment,
    has_keys=FLAGS,
    strict=FLAGS,
    exchanging=FLAGS,
    awaits_kex_init=FLAGS,
    awaits_newkeys=FLAGS,
    awaits_ext_info=FLAGS,
    serves_authentication=FLAGS,
    authenticated=FLAGS,
)
NUMBERS = st.integers(0, 255)
SERVED = {Route.CONNECTION, Route.KEY_EXCHANGE, Route.CHANNEL}


@given(NUMBERS, MOMENTS)
def test_nothing_of_the_connection_protocol_is_served_before_authentication(number: int, moment: Moment) -> None:
    """Messages from 80 on act for an account, so none reaches a handler without keys and a login."""
    if number >= 80 and not (moment.authenticated and moment.has_keys):
        assert route(number, moment) not in SERVED


@given(NUMBERS, MOMENTS)
def test_authentication_takes_keys_and_the_service_and_is_over_after_it(number: int, moment: Moment) -> None:
    """A login request is served only once, on an encrypted connection that has requested ssh-userauth."""
    if 50 <= number < 80 and route(number, moment) in SERVED:
        assert number == dispatch.USERAUTH_REQUEST
        assert moment.has_keys
        assert moment.serves_authentication
        assert not moment.authenticated


@given(NUMBERS, MOMENTS)
def test_a_strict_key_exchange_has_nothing_else_in_it(number: int, moment: Moment) -> None:
    """kex-strict-c-v00: any message that the first exchange does not expect ends the connection (CVE-2023-48795)."""
    if moment.strict and not moment.has_keys:
        awaited = {
            dispatch.DISCONNECT: True,
            dispatch.KEXINIT: not moment.exchanging,
            dispatch.KEX_INIT: moment.awaits_kex_init,
            dispatch.NEWKEYS: moment.awaits_newkeys,
        }
        assert (route(number, moment) is not Route.VIOLATION) == awaited.get(number, False)


KEYED = Moment(has_keys=True)
LOGGED_IN = Moment(has_keys=True, authenticated=True)


@pytest.mark.parametrize(
    ("number", "moment", "expected"),
    [
        (0, LOGGED_IN, Route.VIOLATION),
        (1, Moment(has_keys=False), Route.CONNECTION),
        (2, Moment(has_keys=False, strict=True), Route.VIOLATION),
        (2, KEYED, Route.CONNECTION),
        (2, LOGGED_IN, Route.CONNECTION),
        (2, Moment(has_keys=False), Route.CONNECTION),
        (6, Moment(has_keys=False), Route.REFUSE),
        (50, Moment(has_keys=False), Route.VIOLATION),
        (192, Moment(has_keys=False), Route.IGNORE),
        (192, KEYED, Route.PING),
        (193, KEYED, Route.IGNORE),
        (5, KEYED, Route.CONNECTION),
        (5, LOGGED_IN, Route.REFUSE),
        (7, KEYED, Route.REFUSE),
        (7, Moment(has_keys=True, awaits_ext_info=True), Route.CONNECTION),
        (20, KEYED, Route.REFUSE),
        (20, Moment(has_keys=False), Route.CONNECTION),
        (20, Moment(has_keys=False, exchanging=True), Route.REFUSE),
        (20, LOGGED_IN, Route.CONNECTION),
        (30, LOGGED_IN, Route.REFUSE),
        (30, Moment(has_keys=True, authenticated=True, exchanging=True, awaits_kex_init=True), Route.KEY_EXCHANGE),
        (21, Moment(has_keys=True, authenticated=True, exchanging=True, awaits_newkeys=True), Route.CONNECTION),
        (50, LOGGED_IN, Route.IGNORE),
        (61, LOGGED_IN, Route.REFUSE),
        (82, LOGGED_IN, Route.CONNECTION),
        (94, LOGGED_IN, Route.CHANNEL),
        (99, LOGGED_IN, Route.IGNORE),
        (200, LOGGED_IN, Route.REFUSE),
    ],
)
def test_messages_go_where_openssh_has_them(number: int, moment: Moment, expected: Route) -> None:
    """Each case is a row of one of OpenSSH's tables."""
    assert route(number, moment) is expected

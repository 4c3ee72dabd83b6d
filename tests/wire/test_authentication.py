"""Login attempts at the wire level: requests that correct clients never send, and the answers that they get."""

from collections.abc import Callable

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.server import Server
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_OPEN,
    CLOSED,
    OPEN_CONFIRMATION,
    USERAUTH_FAILURE,
    USERAUTH_PK_OK,
    USERAUTH_REQUEST,
    USERAUTH_SUCCESS,
    RawClient,
    play,
    u32,
)

MAX_REQUESTS = 14
"""The authentication requests that a connection may make with 6 attempts: core.limits.AttemptBudget."""


@pytest.fixture(scope="module")
def other_key(make_key: Callable[..., KeyPair]) -> asyncssh.SSHKey:
    """A key that no account has."""
    return asyncssh.read_private_key(make_key().private)


def refusals(server: Server, since: int) -> list[str]:
    """The logged reasons for refusals since the mark."""
    return [event["reason"] for event in server.find("auth.attempt", since, result="denied")]


def test_an_honest_login_works(server: Server, user_key: KeyPair) -> None:
    """Checks that the raw client is not refused for mistakes of its own: offer, proof and a command work."""

    async def scenario(client: RawClient) -> None:
        client.offer(client.key)
        pkttype, payload = await client.hear(USERAUTH_PK_OK, USERAUTH_FAILURE)
        assert pkttype == USERAUTH_PK_OK
        assert payload == text(b"ssh-ed25519") + text(client.key.public_data)
        await client.authenticate()
        assert await client.is_alive()

    play(server, user_key, scenario, authenticate=False)


@pytest.mark.parametrize(
    "method", [b"none", b"password", b"keyboard-interactive", b"hostbased", b"gssapi-with-mic", b"\xff"]
)
def test_no_other_method_gets_in(server: Server, user_key: KeyPair, method: bytes) -> None:
    """publickey is the only method; all others are refused, with any contents, and the refusal names publickey."""
    password = b"\0" + text(b"secret")

    async def scenario(client: RawClient) -> None:
        client.userauth(method, password if method == b"password" else b"")
        assert await client.is_refused() == b"publickey"
        await client.authenticate()

    play(server, user_key, scenario, authenticate=False)


def test_unknown_keys_and_accounts_are_refused_alike(
    server: Server, user_key: KeyPair, other_key: asyncssh.SSHKey
) -> None:
    """The answer does not tell whether an account exists; the log does."""

    async def answer(client: RawClient, user: bytes) -> tuple[int, bytes]:
        client.offer(other_key, user=user)
        return await client.hear(USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS)

    mark = server.mark()
    answers = []
    for user in (server.login.encode(), b"nobody-here", b"root"):

        async def scenario(client: RawClient, user: bytes = user) -> None:
            answers.append(await answer(client, user))

        play(server, user_key, scenario, authenticate=False)
    assert answers[0][0] == USERAUTH_FAILURE
    assert answers[0] == answers[1] == answers[2]
    assert refusals(server, mark) == ["key is not known", "unknown account", "unknown account"]


def test_a_good_key_is_good_for_its_account_only(server: Server, user_key: KeyPair) -> None:
    """A key that is good for one account does not get root in, though root exists on the machine."""

    async def scenario(client: RawClient) -> None:
        client.prove(client.key, user=b"root")
        await client.is_refused()

    play(server, user_key, scenario, authenticate=False)


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda name: name.upper(), id="upper case"),
        pytest.param(lambda name: name + b"\0", id="NUL"),
        pytest.param(lambda name: name + b" ", id="space"),
        pytest.param(lambda name: b"", id="empty"),
        pytest.param(lambda name: name + b"\xc2\xad", id="soft hyphen, which SASLprep drops"),
        pytest.param(lambda name: "".join(chr(ord(c) + 0xFEE0) for c in name.decode()).encode(), id="full width"),
        pytest.param(lambda name: name + "¹".encode(), id="superscript"),
        pytest.param(lambda name: name + b"\xff", id="not UTF-8"),
        pytest.param(lambda name: b"x" * 300, id="300 bytes"),
        pytest.param(lambda name: b"x" * 2000, id="2000 bytes"),
        pytest.param(lambda name: b"../" + name, id="path"),
        pytest.param(lambda name: name + b"\n", id="line feed"),
    ],
)
def test_only_the_very_name_is_the_account(server: Server, user_key: KeyPair, alter: Callable[[bytes], bytes]) -> None:
    """Names that a library or a file system might map to the account's name are refused (RFC 4013 maps some)."""

    async def scenario(client: RawClient) -> None:
        client.prove(client.key, user=alter(client.login.encode()))
        pkttype, _ = await client.hear(USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_PK_OK, CLOSED)
        assert pkttype in {USERAUTH_FAILURE, CLOSED}

    mark = server.mark()
    play(server, user_key, scenario, authenticate=False)
    assert not server.find("connection.authenticated", mark)


@pytest.mark.parametrize("offered_first", [False, True])
def test_a_signature_by_another_key_is_refused(
    server: Server, user_key: KeyPair, other_key: asyncssh.SSHKey, offered_first: bool
) -> None:
    """Protects against a client that knows a valid public key, which is no secret, but not its private key."""

    async def scenario(client: RawClient) -> None:
        if offered_first:
            client.offer(client.key)
            await client.hear(USERAUTH_PK_OK)
        client.prove(other_key, blob=client.key.public_data)
        await client.is_refused()
        client.prove(other_key)
        await client.is_refused()

    mark = server.mark()
    play(server, user_key, scenario, authenticate=False)
    assert refusals(server, mark) == ["signature is wrong", "key is not known"]


def test_a_signature_for_another_session_is_refused(server: Server, user_key: KeyPair) -> None:
    """Protects against a malicious server that relays a person's signature to us (RFC 4252 section 7)."""

    async def scenario(client: RawClient) -> None:
        client.prove(client.key, session=bytes(32))
        await client.is_refused()

    mark = server.mark()
    play(server, user_key, scenario, authenticate=False)
    assert refusals(server, mark) == ["signature is wrong"]


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"\0",
        text(b"ssh-ed25519"),
        text(b"ssh-ed25519") + text(b""),
        text(b"ssh-ed25519") + text(bytes(64)),
        text(b"ssh-ed25519") + text(bytes(63)),
        text(b"ssh-ed25519") + text(bytes(64)) + b"more",
        text(b"ssh-rsa") + text(bytes(64)),
        text(b"\xff") + text(bytes(64)),
        b"\xff\xff\xff\xff" + bytes(64),
    ],
    ids=repr,
)
def test_garbage_for_a_signature_is_refused(server: Server, user_key: KeyPair, signature: bytes) -> None:
    """A malformed signature is refused like a wrong one, and is not logged as a bug of ours."""

    async def scenario(client: RawClient) -> None:
        client.prove(client.key, signature=signature)
        await client.is_refused()
        await client.authenticate()

    play(server, user_key, scenario, authenticate=False)


@pytest.mark.parametrize(
    ("algorithm", "accepted"), [(b"ssh-rsa", False), (b"rsa-sha2-256", True), (b"rsa-sha2-512", True)]
)
def test_rsa_keys_sign_with_sha2(
    make_server: MakeServer, make_key: Callable[..., KeyPair], algorithm: bytes, accepted: bool
) -> None:
    """A SHA-1 signature can be forged (RFC 8332 section 1), so it is refused although the key itself is accepted."""
    rsa = make_key("rsa", "-b", "2048")
    server = make_server(start=False)
    text_of_config = server.config.read_text()
    start = text_of_config.index("file:")
    server.config.write_text(
        text_of_config[:start] + f"file:{rsa.public}" + text_of_config[text_of_config.index('"', start) :]
    )
    server.start()

    async def scenario(client: RawClient) -> None:
        client.offer(client.key, algorithm=algorithm)
        pkttype, _ = await client.hear(USERAUTH_PK_OK, USERAUTH_FAILURE)
        assert (pkttype == USERAUTH_PK_OK) is accepted
        client.prove(client.key, algorithm=algorithm)
        pkttype, _ = await client.hear(USERAUTH_SUCCESS, USERAUTH_FAILURE)
        assert (pkttype == USERAUTH_SUCCESS) is accepted

    play(server, rsa, scenario, authenticate=False)


def test_six_failures_end_the_connection(server: Server, user_key: KeyPair, other_key: asyncssh.SSHKey) -> None:
    """OpenSSH's MaxAuthTries: the sixth failure is the last; the `none` that starts every login does not count."""

    async def scenario(client: RawClient) -> None:
        client.userauth(b"none")
        await client.is_refused()
        for _ in range(5):
            client.offer(other_key)
            await client.is_refused()
        client.offer(other_key)
        error = await client.is_cut_off()
        assert "Too many authentication failures" in str(error)

    play(server, user_key, scenario, authenticate=False)


def test_the_sixth_attempt_may_succeed(server: Server, user_key: KeyPair, other_key: asyncssh.SSHKey) -> None:
    """A person with five other keys in the agent still gets in."""

    async def scenario(client: RawClient) -> None:
        client.userauth(b"none")
        await client.is_refused()
        for _ in range(5):
            client.offer(other_key)
            await client.is_refused()
        client.offer(client.key)
        await client.hear(USERAUTH_PK_OK)
        await client.authenticate()

    play(server, user_key, scenario, authenticate=False)


def test_a_flood_of_requests_is_cut_off(server: Server, user_key: KeyPair) -> None:
    """A flood of offers is limited, although good offers are not failures, and the log stays short."""

    async def scenario(client: RawClient) -> None:
        for _ in range(1000):
            client.offer(client.key)
        await client.is_cut_off()

    mark = server.mark()
    play(server, user_key, scenario, authenticate=False)
    assert len(server.find("auth.attempt", mark)) <= MAX_REQUESTS


def test_the_account_cannot_change_on_the_way(server: Server, user_key: KeyPair) -> None:
    """As in sshd, one connection has one account: a check for one name must not count for another."""

    async def scenario(client: RawClient) -> None:
        client.offer(client.key, user=b"root")
        await client.is_refused()
        client.prove(client.key)
        await client.is_cut_off()

    mark = server.mark()
    play(server, user_key, scenario, authenticate=False)
    assert not server.find("connection.authenticated", mark)


def test_a_pipelined_change_of_account_gains_nothing(server: Server, user_key: KeyPair) -> None:
    """A name that arrives while another account's proof is being checked does not replace that account."""

    async def scenario(client: RawClient) -> None:
        client.prove(client.key)
        client.userauth(b"none", user=b"root")
        await client.hear(CLOSED, USERAUTH_SUCCESS)

    mark = server.mark()
    play(server, user_key, scenario, authenticate=False)
    assert all(event["user"] == server.login for event in server.find("connection.authenticated", mark))


def test_requests_after_success_are_ignored(server: Server, user_key: KeyPair) -> None:
    """RFC 4252 section 5.1: further requests after success are ignored, also after other messages, as by sshd."""

    async def scenario(client: RawClient) -> None:
        client.prove(client.key)
        client.userauth(b"none")
        assert await client.is_alive()
        client.userauth(b"none")
        assert await client.is_alive()

    mark = server.mark()
    play(server, user_key, scenario)
    assert len(server.find("connection.authenticated", mark)) == 1


@pytest.mark.parametrize(
    ("pkttype", "payload", "next_heard"),
    [
        pytest.param(CHANNEL_OPEN, text(b"session") + u32(0, 1000, 1000), USERAUTH_FAILURE, id="channel open"),
        pytest.param(80, text(b"tcpip-forward") + b"\1" + text(b"") + u32(0), USERAUTH_FAILURE, id="global request"),
        pytest.param(USERAUTH_SUCCESS, b"", USERAUTH_FAILURE, id="success"),
        pytest.param(USERAUTH_FAILURE, text(b"none") + b"\1", USERAUTH_FAILURE, id="failure"),
        pytest.param(USERAUTH_PK_OK, text(b"ssh-ed25519") + text(b""), USERAUTH_FAILURE, id="pk ok"),
        pytest.param(61, u32(0), USERAUTH_FAILURE, id="info response"),
        pytest.param(53, text(b"\xff") + text(b""), USERAUTH_FAILURE, id="banner"),
        pytest.param(20, b"", USERAUTH_FAILURE, id="empty kexinit"),
        pytest.param(21, b"", USERAUTH_FAILURE, id="newkeys"),
        pytest.param(30, text(bytes(32)), USERAUTH_FAILURE, id="kex init"),
        pytest.param(USERAUTH_REQUEST, b"", CLOSED, id="empty request"),
        pytest.param(USERAUTH_REQUEST, text(b"x"), CLOSED, id="cut off request"),
        pytest.param(USERAUTH_REQUEST, text(b"x") + text(b"ssh-foo") + text(b"none"), CLOSED, id="other service"),
        pytest.param(5, text(b"ssh-connection"), CLOSED, id="service connection"),
    ],
)
def test_what_has_no_place_before_authentication_leads_nowhere(
    server: Server, user_key: KeyPair, pkttype: int, payload: bytes, next_heard: int
) -> None:
    """Before its login a peer can only authenticate (RFC 4252 section 6): all other messages have no effect."""

    async def scenario(client: RawClient) -> None:
        client.say(pkttype, payload)
        client.userauth(b"none")
        heard, _ = await client.hear(USERAUTH_FAILURE, CLOSED, OPEN_CONFIRMATION, USERAUTH_SUCCESS)
        assert heard == next_heard

    mark = server.mark()
    play(server, user_key, scenario, authenticate=False)
    assert not server.find("connection.authenticated", mark)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\1", id="flag"),
        pytest.param(b"\0" + text(b"ssh-ed25519"), id="no key"),
        pytest.param(b"\0" + text(b"\xff") + text(b""), id="not ascii"),
        pytest.param(b"\0" + text(b"ssh-ed25519") + text(b"") + b"more", id="more"),
        pytest.param(b"\1" + text(b"ssh-ed25519") + text(b""), id="no signature"),
        pytest.param(b"\0" + text(b"ssh-ed25519") + b"\xff\xff\xff\xff", id="too long a key"),
    ],
)
def test_malformed_public_key_requests_do_not_get_in(server: Server, user_key: KeyPair, fields: bytes) -> None:
    """A request that can't be parsed is treated as the peer's error, and not as a bug of ours."""

    async def scenario(client: RawClient) -> None:
        client.userauth(b"publickey", fields)
        heard, _ = await client.hear(CLOSED, USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS)
        assert heard in {CLOSED, USERAUTH_FAILURE}

    play(server, user_key, scenario, authenticate=False)

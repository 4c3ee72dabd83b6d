"""How long a login may take: longer for a person who needs a PIN and a touch, but not at others' cost."""

import asyncssh

from tests.conftest import KeyPair, MakeServer
from tests.wire.raw import USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS, RawClient, connected, play


def test_a_person_has_time_for_the_pin_and_the_touch(make_server: MakeServer, user_key: KeyPair) -> None:
    """A client that has offered a valid key may sign after the login grace; one with a wrong key is disconnected."""
    server = make_server({"limits": {"login_grace": "1s", "signature_grace": "40s"}})

    async def patient(client: RawClient) -> None:
        client.offer(client.key)
        await client.hear(USERAUTH_PK_OK)
        async with connected(server, user_key.private, authenticate=False) as other:
            other.offer(asyncssh.generate_private_key("ssh-ed25519"))
            await other.hear(USERAUTH_FAILURE)
            await other.is_cut_off()
        client.prove(client.key)
        await client.hear(USERAUTH_SUCCESS)

    play(server, user_key, patient, authenticate=False)
    assert server.wait_for("connection.closed", user="")["reason"] == "Login timeout expired"
    assert server.wait_for("connection.authenticated")["seconds"] > 1


def test_that_time_is_over_some_day(make_server: MakeServer, user_key: KeyPair) -> None:
    """The extra time is limited, since anybody can offer a public key, and repeated offers add none."""
    server = make_server({"limits": {"login_grace": "1s", "signature_grace": "2s"}})

    async def stranger(client: RawClient) -> None:
        for _ in range(3):
            client.offer(client.key)
            await client.hear(USERAUTH_PK_OK)
        await client.is_cut_off()

    play(server, user_key, stranger, authenticate=False)
    assert 1.9 < server.wait_for("connection.closed")["seconds"] < 40


def test_the_signature_grace_never_shortens_the_login_grace(make_server: MakeServer, user_key: KeyPair) -> None:
    """With a login grace that is longer than the signature grace, offering a key does not shorten it."""
    server = make_server({"limits": {"login_grace": "2s", "signature_grace": "1ms"}})

    async def stranger(client: RawClient) -> None:
        client.offer(client.key)
        await client.hear(USERAUTH_PK_OK)
        await client.is_cut_off()

    play(server, user_key, stranger, authenticate=False)
    assert server.wait_for("connection.closed")["seconds"] > 1.9


def test_that_time_does_not_hold_the_machine_up(make_server: MakeServer, user_key: KeyPair) -> None:
    """The machine does not stay up for a signature that is still to come, since anybody can offer a public key."""
    server = make_server({"idle": {"timeout": "2s"}})

    async def stranger(client: RawClient) -> None:
        client.offer(client.key)
        await client.hear(USERAUTH_PK_OK)
        await client.is_cut_off()

    play(server, user_key, stranger, authenticate=False)
    assert server.wait() == 0

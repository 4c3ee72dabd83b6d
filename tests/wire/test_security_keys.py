"""Security keys: their owner has to be present, if the server requires it. Only the keys are simulated in software."""

import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import asyncssh
import pytest

from pyssh_gateway.core.access.certificates import certified
from tests.conftest import KeyPair
from tests.support.certificates import Authority, blob_of
from tests.support.security_key import TOUCHED, VERIFIED, SecurityKey
from tests.support.server import Server
from tests.wire.plain import text
from tests.wire.raw import USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS, RawClient, play

LINES = {"plain": "", "untouched": "no-touch-required ", "verified": "verify-required "}
"""The options in the server's file for each of the keys."""


class Keys(NamedTuple):
    """A server that lets these keys in by their lines, and keys that `authority` certifies."""

    server: Server
    user: KeyPair
    keys: dict[str, SecurityKey]
    authority: Authority
    directory: Path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[Keys]:
    """The server that this module's tests share."""
    directory = tmp_path_factory.mktemp("security-keys")
    keys = {f"{name} {kind}": SecurityKey(kind) for name in LINES for kind in ("ed25519", "ecdsa")}
    authority = Authority(directory)
    lines = [f"{LINES[name.split()[0]]}{key.public_line}\n" for name, key in keys.items()]
    path = directory / "authorized_keys"
    path.write_text("".join(lines) + f"cert-authority,no-touch-required {authority.public.read_text()}")
    with Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=[f"file:{path}"]) as server:
        yield Keys(server, user_key, keys, authority, directory)


def gets_in(known: Keys, key: SecurityKey, flags: int, blob: bytes | None = None, algorithm: bytes = b"") -> bool:
    """Whether a proof with these flags gets in; the key is offered first, which always succeeds."""
    key.flags = flags
    got_in = []

    async def scenario(client: RawClient) -> None:
        algorithm_ = algorithm or key.algorithm
        client.userauth(b"publickey", b"\0", text(algorithm_), text(blob or key.public_data))
        pkttype, _ = await client.hear(USERAUTH_PK_OK, USERAUTH_FAILURE)
        assert pkttype == USERAUTH_PK_OK
        client.prove(cast(asyncssh.SSHKey, key), blob=blob, algorithm=algorithm_)
        pkttype, _ = await client.hear(USERAUTH_SUCCESS, USERAUTH_FAILURE)
        got_in.append(pkttype == USERAUTH_SUCCESS)

    play(known.server, known.user, scenario, authenticate=False)
    return got_in[0]


UNTOUCHED = "the security key was not touched"
UNVERIFIED = "the security key did not verify its user (verify-required)"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize(
    ("name", "flags", "reason"),
    [
        ("plain", TOUCHED, ""),
        ("plain", 0, UNTOUCHED),
        ("untouched", 0, ""),
        ("verified", TOUCHED | VERIFIED, ""),
        ("verified", TOUCHED, UNVERIFIED),
    ],
)
def test_what_the_line_asks_for_is_what_the_key_has_signed(
    known: Keys, kind: str, name: str, flags: int, reason: str
) -> None:
    """The signature must have a touch, except with no-touch-required, and a PIN with verify-required."""
    mark = known.server.mark()
    assert gets_in(known, known.keys[f"{name} {kind}"], flags) == (not reason)
    assert [event["reason"] for event in known.server.find("auth.attempt", mark, result="denied")] == [reason] * bool(
        reason
    )


@pytest.mark.parametrize(
    ("options", "flags", "is_in"),
    [
        ((), TOUCHED, True),
        ((), 0, False),
        (("-O", "no-touch-required"), 0, True),
        (("-O", "verify-required"), TOUCHED, False),
        (("-O", "verify-required"), TOUCHED | VERIFIED, True),
    ],
)
def test_certified_security_keys(known: Keys, options: tuple[str, ...], flags: int, is_in: bool) -> None:
    """A missing touch is accepted only if authority and certificate both allow it; either can require the PIN."""
    key = SecurityKey()
    public = key.write(known.directory / "certified.pub")
    certificate = blob_of(known.authority.certify(public, *options, principals=known.server.login))
    assert gets_in(known, key, flags, certificate, certified(key.key_type).encode()) == is_in


def test_flags_can_not_be_added_afterwards(known: Keys) -> None:
    """The flags are part of the signed data: claiming a touch afterwards makes the signature invalid."""
    key = known.keys["plain ed25519"]

    class Liar:
        public_data, algorithm = key.public_data, key.algorithm

        def sign(self, data: bytes, algorithm: bytes) -> bytes:
            """Interface."""
            key.flags = 0
            signature = key.sign(data, algorithm)
            return signature[:-5] + bytes([TOUCHED]) + signature[-4:]

    async def scenario(client: RawClient) -> None:
        client.prove(cast(asyncssh.SSHKey, Liar()))
        await client.is_refused()

    mark = known.server.mark()
    play(known.server, known.user, scenario, authenticate=False)
    known.server.wait_for("auth.attempt", since=mark, result="denied", reason="signature is wrong")

"""Certificates that ssh-keygen made, used by the real ssh, and invalid ones, sent by a raw client."""

import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import asyncssh
import pytest

from tests.conftest import KeyPair
from tests.support.certificates import Authority, blob_of
from tests.support.client import Client, Result
from tests.support.key_lines import string
from tests.support.server import Server
from tests.wire.plain import text
from tests.wire.raw import USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS, RawClient, play

ED25519 = b"ssh-ed25519-cert-v01@openssh.com"


class Trust(NamedTuple):
    """A server, the authorities of its one account (one by ca:, two by lines of a file), and an untrusted authority."""

    server: Server
    user: KeyPair
    main: Authority
    rsa: Authority
    web: Authority
    stranger: Authority

    @property
    def login(self) -> str:
        """The account."""
        return self.server.login

    def ssh(self, certificate: Path, command: str = "true", *options: str, key: KeyPair | None = None) -> Result:
        """Run a command with a certificate; ssh also offers its key without the certificate."""
        client = Client(self.server, (key or self.user).private)
        return client.run(command, "-o", f"CertificateFile={certificate}", *options)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[Trust]:
    """The server that this module's tests share."""
    directory = tmp_path_factory.mktemp("certificates")
    main, web, stranger = (Authority(directory, name) for name in ("main", "web", "stranger"))
    rsa = Authority(directory, "rsa", "rsa", "-b", "2048")
    lines = directory / "authorized_keys"
    lines.write_text(
        f"cert-authority,no-port-forwarding {rsa.public.read_text()}"
        f'cert-authority,principals="web,db",command="echo web" {web.public.read_text()}'
    )
    keys = [f"ca:{main.public}", f"file:{lines}"]
    with Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=keys) as server:
        yield Trust(server, user_key, main, rsa, web, stranger)


def reasons(server: Server, since: int, connections: int = 1) -> list[str]:
    """The reasons for refused certificates since the mark, on so many connections; ssh then offers the plain key."""
    server.wait_for("connection.closed", since=since, count=connections)
    denied = server.find("auth.attempt", since, result="denied", method="publickey")
    return [event["reason"] for event in denied if event["reason"] != "key is not known"]


def test_a_certificate_lets_its_person_in(trust: Trust) -> None:
    """The log and the session have the name that the authority gave to the person."""
    certificate = trust.main.certify(trust.user.public, "-I", "amos at work", "-z", "7", principals=trust.login)
    mark = trust.server.mark()
    result = trust.ssh(certificate, "echo $PYSSH_IDENTITY")
    assert (result.status, result.stderr) == (0, b""), result
    person, fingerprint = result.stdout.decode().split()
    assert person == "ca:amos␣at␣work"
    accepted = trust.server.wait_for("connection.authenticated", since=mark)
    assert accepted["identity"] == {"person": person, "id": None, "fingerprint": fingerprint}
    assert accepted["source"] == f"ca:{trust.main.public}"
    assert accepted["fingerprint"] == fingerprint


def test_the_certified_key_alone_lets_nobody_in(trust: Trust) -> None:
    """Neither the certified key without its certificate nor the authority's own key gets in."""
    assert Client(trust.server, trust.user.private).run("true").status == 255
    assert Client(trust.server, trust.main.private).run("true").status == 255


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-V", "-2h:-1h"), "the certificate expired 1h ago"),
        (("-V", "+1h:+2h"), "the certificate is not yet valid, for another "),
        (("-n", "somebody-else"), "the certificate names none of "),
        (("-n", ""), "the certificate names no principals"),
        (("-O", "source-address=192.0.2.0/24"), "the certificate may not be used from 127.0.0.1 (source-address)"),
        (("-O", "critical:no-such@example.com=1"), "its critical option 'no-such@example.com' is not known here"),
        (("-O", "verify-required"), "a ssh-ed25519 key can't verify its user (verify-required)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_the_authority_did_not_grant_is_not_granted(trust: Trust, options: tuple[str, ...], reason: str) -> None:
    """The log has the reason; the client only learns that it is refused."""
    names = None if options == ("-n", "") else trust.login
    certificate = trust.main.certify(trust.user.public, *(options if names else ()), principals=names)
    mark = trust.server.mark()
    result = trust.ssh(certificate)
    assert result.status == 255
    assert b"Permission denied" in result.stderr
    (found,) = reasons(trust.server, mark)
    assert reason in found


def test_an_authority_of_somebody_elses_certifies_nobody(trust: Trust) -> None:
    """An untrusted authority gets nobody in, however correct its certificate is."""
    mark = trust.server.mark()
    assert trust.ssh(trust.stranger.certify(trust.user.public, principals=trust.login)).status == 255
    assert reasons(trust.server, mark) == ["the certificate's authority is not known"]


@pytest.mark.parametrize(("algorithm", "status"), [("rsa-sha2-256", 0), ("rsa-sha2-512", 0), ("ssh-rsa", 255)])
def test_an_rsa_authority_signs_with_sha2(trust: Trust, algorithm: str, status: int) -> None:
    """A certificate that was signed with SHA-1 is refused, since it may be forged."""
    certificate = trust.rsa.certify(trust.user.public, "-t", algorithm, principals=trust.login)
    assert trust.ssh(certificate).status == status


@pytest.mark.parametrize("kind", [("rsa", "-b", "2048"), ("ecdsa", "-b", "384")], ids=" ".join)
def test_other_types_of_keys_are_certified(
    trust: Trust, make_key: Callable[..., KeyPair], kind: tuple[str, ...]
) -> None:
    """Keys of other types get in by certificate; for RSA, ssh names another algorithm for the signature."""
    key = make_key(*kind)
    mark = trust.server.mark()
    assert trust.ssh(trust.main.certify(key.public, principals=trust.login), key=key).status == 0
    trust.server.wait_for("auth.attempt", since=mark, result="accepted")


def test_a_certificates_options_hold_in_the_session(trust: Trust) -> None:
    """A forced command replaces the requested one, and what no extension permits is refused: here a terminal."""
    bare = ("-O", "clear", "-O", "force-command=echo $SSH_ORIGINAL_COMMAND, forced")
    forced = trust.main.certify(trust.user.public, *bare, principals=trust.login)
    assert trust.ssh(forced, "date").stdout == b"date, forced\n"
    assert b"PTY allocation request failed" in trust.ssh(forced, "date", "-tt").stderr
    plain = trust.main.certify(trust.user.public, principals=trust.login)
    assert trust.ssh(plain, "test -t 0", "-tt").status == 0


def test_the_authoritys_line_holds_in_the_session(trust: Trust) -> None:
    """Its principals count instead of the account's name, and its command runs; a certificate with another fails."""
    mark = trust.server.mark()
    assert trust.ssh(trust.web.certify(trust.user.public, principals="mail,db"), "date").stdout == b"web\n"
    assert trust.ssh(trust.web.certify(trust.user.public, principals=trust.login)).status == 255
    other = trust.web.certify(trust.user.public, "-O", "force-command=date", principals="web")
    assert trust.ssh(other).status == 255
    assert reasons(trust.server, mark, 3) == [
        "the certificate names none of web, db as a principal",
        "the certificate's forced command is not the authority's",
    ]


def test_certificates_that_nobody_signed_are_refused(trust: Trust) -> None:
    """A certificate without its authority's valid signature is refused, and so is a host certificate."""
    certificate = blob_of(trust.main.certify(trust.user.public, principals="somebody-else"))
    forged = certificate.replace(string(string(b"somebody-else")), string(string(trust.login.encode())), 1)
    assert forged != certificate
    hosts = blob_of(trust.main.certify(trust.user.public, "-h", principals=trust.login))

    async def scenario(client: RawClient) -> None:
        client.userauth(b"publickey", b"\0", text(ED25519), text(forged))
        await client.is_refused()
        client.prove(client.key, blob=forged, algorithm=ED25519, signature=b"")
        await client.is_refused()
        prove(client, forged)
        await client.is_refused()
        prove(client, hosts)
        await client.is_refused()

    mark = trust.server.mark()
    play(trust.server, trust.user, scenario, authenticate=False)
    wrong = "the certificate's signature is wrong"
    malformed = f"signature made with a malformed signature, request says {ED25519.decode()}"
    assert reasons(trust.server, mark) == [wrong, malformed, wrong, "this certificate is a host's, not a user's"]


def test_a_certificate_is_worth_nothing_without_its_key(trust: Trust, make_key: Callable[..., KeyPair]) -> None:
    """Certificates are public: an offer is answered, but the proof must be made with the certified key."""
    certificate = blob_of(trust.main.certify(make_key().public, principals=trust.login))

    async def scenario(client: RawClient) -> None:
        client.userauth(b"publickey", b"\0", text(ED25519), text(certificate))
        pkttype, payload = await client.hear(USERAUTH_PK_OK, USERAUTH_FAILURE)
        assert pkttype == USERAUTH_PK_OK
        assert payload == text(ED25519) + text(certificate)
        prove(client, certificate)
        await client.is_refused()
        prove(client, certificate[:-1])
        await client.is_refused()

    mark = trust.server.mark()
    play(trust.server, trust.user, scenario, authenticate=False)
    assert reasons(trust.server, mark) == ["signature is wrong", "this certificate can't be used: it is cut off"]


def test_the_proof_names_the_certificates_algorithm(trust: Trust) -> None:
    """The same signature is refused under the plain key's algorithm, and accepted under the certificate's."""
    certificate = blob_of(trust.main.certify(trust.user.public, principals=trust.login))

    async def scenario(client: RawClient) -> None:
        prove(client, certificate, algorithm=b"ssh-ed25519")
        await client.is_refused()
        prove(client, certificate)
        pkttype, _ = await client.hear(USERAUTH_SUCCESS, USERAUTH_FAILURE)
        assert pkttype == USERAUTH_SUCCESS

    play(trust.server, trust.user, scenario, authenticate=False)


class _Signer:
    """The client's key, which signs with its own algorithm whatever the request names."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key
        self.algorithm = key.algorithm
        self.public_data = key.public_data

    def sign(self, data: bytes, algorithm: bytes) -> bytes:
        """Interface."""
        return self._key.sign(data, self.algorithm)


def prove(client: RawClient, certificate: bytes, algorithm: bytes = ED25519) -> None:
    """Send a request that the client's key has signed."""
    client.prove(cast(asyncssh.SSHKey, _Signer(client.key)), blob=certificate, algorithm=algorithm)

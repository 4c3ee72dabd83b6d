"""monitor.attempts: which requests lead to a login, and that a compromised preauth process can't forge one."""

import asyncio
from collections.abc import Callable

import asyncssh
import msgspec
import pytest

from pyssh_gateway.config.types import Limits
from pyssh_gateway.core.access.authorized_keys import KeySnapshot, fingerprint
from pyssh_gateway.core.access.freshness import Patience
from pyssh_gateway.events import AnyEvent, AuthAttempt
from pyssh_gateway.ipc.preauth import Answer, Attempt, Sign
from pyssh_gateway.keys.host_keys import HostKey, load_or_create
from pyssh_gateway.monitor.attempts import Attempts, ViolationError
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from tests.support.key_lines import string
from tests.support.snapshots import USER, line, snapshot

PEER = "192.0.2.1"
SESSION = bytes(range(32))
KEY, OTHER = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
ALGORITHM = "ssh-ed25519"


class Gateway:
    """The services that attempts use; requests and events are recorded."""

    def __init__(self, signer: HostKeySigner, keys: KeySnapshot, *, attempts: int = 6) -> None:
        self.limits = Limits(auth_attempts=attempts)
        self.signer = signer
        self.keys = keys
        self.told: list[AuthAttempt] = []
        self.looked: list[str] = []
        self.when_looking: Callable[[], None] = lambda: None
        self.held: asyncio.Event | None = None
        self.reading = asyncio.Event()

    def publish(self, event: AnyEvent) -> None:
        """Record an event."""
        assert isinstance(event, AuthAttempt)
        self.told.append(event)

    def snapshot(self) -> KeySnapshot:
        """The current keys."""
        return self.keys

    async def read_files(self, patience: Patience) -> None:
        """Do nothing, or wait if a test says so."""
        self.reading.set()
        if self.held is not None:
            await self.held.wait()

    async def look_again(self, peer: str, known_as: str, patience: Patience) -> None:
        """Record a look at the sources."""
        self.looked.append(known_as)
        self.when_looking()

    def clock(self) -> float:
        """A fixed time."""
        return 1_700_000_000.0

    @property
    def said(self) -> list[tuple[str, str, str]]:
        """The method, result and reason of each event."""
        return [(event.method, event.result, event.reason) for event in self.told]


@pytest.fixture(scope="module")
def host_keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[HostKey, ...]:
    """The server's host key."""
    return load_or_create(tmp_path_factory.mktemp("keys"), ("ed25519",))


@pytest.fixture
def gateway(host_keys: tuple[HostKey, ...]) -> Gateway:
    """A gateway with KEY as the account's key."""
    return Gateway(HostKeySigner(host_keys), snapshot(line(KEY.public_data)))


def begun(gateway: Gateway) -> Attempts:
    """A connection after its key exchange."""
    attempts = Attempts("c1", PEER, gateway)
    asyncio.run(attempts.sign(Sign(b"ssh-ed25519", SESSION)))
    return attempts


def signature(
    key: asyncssh.SSHKey = KEY,
    *,
    user: bytes = USER.encode(),
    session: bytes = SESSION,
    blob: bytes = KEY.public_data,
    flag: bytes = b"\1",
) -> bytes:
    """The signature of a correct client, with the fields that are given replaced."""
    request = b"\x32" + string(user) + string(b"ssh-connection") + string(b"publickey") + flag
    return key.sign(string(session) + request + string(ALGORITHM.encode()) + string(blob), ALGORITHM.encode())


def request(proof: bytes | None = None, *, key: asyncssh.SSHKey = KEY, user: bytes = USER.encode()) -> Attempt:
    """An offer, or a request with a signature."""
    return Attempt(user, "publickey", ALGORITHM, key.public_data, proof)


def ask(attempts: Attempts, asked: Attempt) -> Answer:
    """The answer to an attempt."""
    return asyncio.run(attempts.attempt(asked))


def test_a_key_is_offered_and_proved(gateway: Gateway) -> None:
    """A usual login succeeds: `none`, an offer, and a signature over this session."""
    attempts = begun(gateway)
    assert ask(attempts, Attempt(USER.encode(), "none")) == Answer("denied", last=False)
    assert ask(attempts, request()) == Answer("offered", last=False)
    assert attempts.accepted is None
    assert ask(attempts, request(signature())) == Answer("accepted", last=False)
    assert attempts.accepted is not None
    assert attempts.accepted.signer == KEY.public_data
    assert gateway.said == [("publickey", "offered", ""), ("publickey", "accepted", "")]
    assert gateway.told[1].fingerprint == fingerprint(KEY.public_data)


@pytest.mark.parametrize(
    "proof",
    [
        signature(OTHER),
        signature(session=bytes(32)),
        signature(user=b"root"),
        signature(blob=OTHER.public_data),
        signature(flag=b"\0"),
        KEY.sign(SESSION, b"ssh-ed25519"),
        string(b"ssh-ed25519") + string(bytes(64)),
    ],
    ids=["another key", "another session", "another user", "another blob", "no signature flag", "bare hash", "zeros"],
)
def test_a_signature_over_anything_else_is_wrong(gateway: Gateway, proof: bytes) -> None:
    """A signature by another key, or over anything but this request in this session, is refused."""
    attempts = begun(gateway)
    assert ask(attempts, request(proof)) == Answer("denied", last=False)
    assert attempts.accepted is None
    assert gateway.told[-1].code == "signature"
    assert ask(attempts, request(signature())).result == "accepted"


def test_one_hash_is_signed_and_it_is_the_session(gateway: Gateway) -> None:
    """A compromised preauth process gets no signature for a second key exchange."""
    attempts = Attempts("c1", PEER, gateway)
    signed = asyncio.run(attempts.sign(Sign(b"ssh-ed25519", SESSION)))
    (blob,) = gateway.signer.announced
    assert asyncssh.public_key.decode_ssh_public_key(blob).verify(SESSION, signed.signature)
    assert attempts.session_id == SESSION
    with pytest.raises(ViolationError, match="second"):
        asyncio.run(attempts.sign(Sign(b"ssh-ed25519", bytes(32))))
    assert attempts.session_id == SESSION


def test_a_key_that_is_not_there_does_not_sign(gateway: Gateway) -> None:
    """An algorithm without a host key is refused, and its hash does not become the session id."""
    attempts = Attempts("c1", PEER, gateway)
    with pytest.raises(ViolationError):
        asyncio.run(attempts.sign(Sign(b"rsa-sha2-256", SESSION)))
    assert attempts.session_id == b""


def test_nobody_logs_in_before_the_key_exchange(gateway: Gateway) -> None:
    """An attempt before the key exchange is refused, as there is no session id to bind a signature to."""
    with pytest.raises(ViolationError, match="wrong time"):
        ask(Attempts("c1", PEER, gateway), request(signature(session=b"")))


def test_nothing_is_asked_after_a_login(gateway: Gateway) -> None:
    """After a login further attempts are refused, and the accepted key does not change."""
    attempts = begun(gateway)
    ask(attempts, request(signature()))
    accepted = attempts.accepted
    with pytest.raises(ViolationError, match="wrong time"):
        ask(attempts, request(signature()))
    assert attempts.accepted is accepted


def test_one_attempt_at_a_time(gateway: Gateway) -> None:
    """A second attempt while the first is being checked is refused, so that answers can't be mixed up."""

    async def scenario() -> None:
        gateway.held = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(attempts.attempt(request(signature())))
            await gateway.reading.wait()
            with pytest.raises(ViolationError, match="wrong time"):
                await attempts.attempt(request())
            gateway.held.set()
        assert first.result().result == "accepted"

    attempts = begun(gateway)
    asyncio.run(scenario())


def test_one_account_for_a_connection(gateway: Gateway) -> None:
    """A connection has one account: what was checked for one name must not count for another."""
    attempts = begun(gateway)
    ask(attempts, request(user=b"root"))
    with pytest.raises(ViolationError, match="another account"):
        ask(attempts, request(signature()))
    assert attempts.accepted is None


def test_the_last_failure_is_said_to_be_the_last(gateway: Gateway) -> None:
    """MaxAuthTries: the sixth failure is the last; a first `none` is free, and good offers only count when too many."""
    attempts = begun(gateway)
    ask(attempts, Attempt(USER.encode(), "none"))
    answers = [ask(attempts, request(key=OTHER)) for _ in range(6)]
    assert [answer.last for answer in answers] == [False] * 5 + [True]
    assert answers[-1].message == (
        "Too many authentication failures: this server allows 6. "
        "If your agent holds many keys, set IdentitiesOnly=yes and IdentityFile for this host"
    )
    assert attempts.too_many is not None
    assert "after 6 failed attempts" in attempts.too_many.reason

    flood = begun(gateway)
    answers = [ask(flood, request()) for _ in range(15)]
    assert answers[:-1] == [Answer("offered", last=False)] * 14
    assert (answers[-1].result, answers[-1].last) == ("denied", True)


def test_passwords_are_not_told_of_agents(gateway: Gateway) -> None:
    """Protects readers from wrong advice: IdentitiesOnly does not help a client that tried passwords."""
    attempts = begun(gateway)
    answers = [ask(attempts, Attempt(USER.encode(), "password")) for _ in range(6)]
    assert answers[-1].message == "Too many authentication failures: this server allows 6"
    assert attempts.too_many is not None
    assert "Identit" not in attempts.too_many.reason


def test_a_client_without_a_key_is_in_the_log_once(gateway: Gateway) -> None:
    """Protects whoever looks for a colleague's failed login: it is logged once, even if no key was offered."""
    attempts = begun(gateway)
    ask(attempts, Attempt(b"hunter2\x1b[2J", "none"))
    attempts.ended()
    attempts.ended()
    assert gateway.said == [("none", "denied", "unknown account")]

    gateway.told.clear()
    attempts = begun(gateway)
    ask(attempts, Attempt(USER.encode(), "none"))
    assert not gateway.told
    attempts.ended()
    attempts.ended()
    assert [(event.user, event.method, event.code) for event in gateway.told] == [(USER, "none", "no-key")]

    gateway.told.clear()
    attempts = begun(gateway)
    attempts.ended()
    assert not gateway.told, "it has named nobody"
    ask(attempts, Attempt(USER.encode(), "none"))
    ask(attempts, request(key=OTHER))
    attempts.ended()
    assert [event.method for event in gateway.told] == ["publickey"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Attempt(USER.encode(), "password"), [("password", "denied", "method is not offered")]),
        (Attempt(USER.encode(), "none"), []),
        (Attempt(b"am\nos", "none"), [("none", "denied", "unknown account")]),
        (Attempt(b"am\xff", "publickey", ALGORITHM, KEY.public_data), [("publickey", "denied", "unknown account")]),
        (Attempt(b"am\xff", "password"), [("password", "denied", "method is not offered")]),
        (request(user=b"root"), [("publickey", "denied", "unknown account")]),
    ],
    ids=["password", "none", "none of a strange name", "key of a strange name", "password of one", "key of nobody"],
)
def test_what_is_told_of_refusals(gateway: Gateway, asked: Attempt, said: list[tuple[str, str, str]]) -> None:
    """Each request is logged, except the `none` that starts every login."""
    assert ask(begun(gateway), asked).result == "denied"
    assert gateway.said == said
    assert {event.code for event in gateway.told} <= {"method", "unknown-account"}


def test_an_unknown_key_has_the_sources_looked_at(gateway: Gateway) -> None:
    """A key added in the meantime gets in; unknown keys are remembered, but not keys whose request is invalid."""

    def found() -> None:
        gateway.keys = snapshot(line(OTHER.public_data))

    attempts = begun(gateway)
    assert ask(attempts, request(key=OTHER)).result == "denied"
    assert attempts.in_vain == (fingerprint(OTHER.public_data),)
    gateway.when_looking = found
    assert ask(attempts, request(key=OTHER)).result == "offered"
    assert gateway.looked == [fingerprint(OTHER.public_data)] * 2
    assert ask(attempts, msgspec.structs.replace(request(), algorithm="rsa-sha2-256")).result == "denied"
    assert len(gateway.looked) == 2
    assert len(attempts.in_vain) == 1

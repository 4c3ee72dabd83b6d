"""What the monitor knows of a login, and leaves to the next monitor, which then need not believe any process."""

from hashlib import sha256

import msgspec

from pyssh_gateway.core.access.key_options import NO_OPTIONS
from pyssh_gateway.core.access.policy import Accept
from pyssh_gateway.core.access.revocations import short_id
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.events import Algorithms, ConnectionAuthenticated, Identity, PreviousLogin
from pyssh_gateway.ipc.postauth import MAX_PROOFS


class Told(msgspec.Struct, frozen=True):
    """What the log says of a login, and the next monitor does without (`ConnectionAuthenticated`)."""

    hassh_server: str = ""
    algorithms: Algorithms | None = None
    previous: PreviousLogin | None = None


class Login(msgspec.Struct, frozen=True):
    """A connection that belongs to the postauth process with the number `process`.

    `accepted` is what let it in, as far as `policy.still_holds` looks at it. `session_id` is the one that the login's
    signature was verified over. `opened` is the Unix time at which the connection came. `host_keys` are the digests of
    the public keys that it may be shown (`digest`). `taken`: postauth has said that it serves the connection, and named
    `client` and `cipher`. `hassh` is the fingerprint of the client's software. `probation`: the client may have come
    back by itself (`ConnectionAuthenticated`), and has not been used since; `break_glass` is as in that event, too. The
    connection may have at most `sessions` sessions, and ask for `proofs_left` more proofs of host keys.
    """

    conn: str
    user: str
    accepted: Accept
    endpoints: Endpoints
    session_id: bytes
    opened: float
    process: int
    host_keys: tuple[bytes, ...]
    sessions: int
    taken: bool = False
    client: str = ""
    cipher: str = ""
    hassh: str = ""
    proofs_left: int = MAX_PROOFS
    probation: float | None = None
    break_glass: bool = False

    @property
    def identity(self) -> Identity:
        """The person."""
        return self.accepted.identity

    def authenticated(self, seconds: float, told: Told | None = None) -> ConnectionAuthenticated:
        """The event: `seconds` after the connection came, its client was told that it has logged in."""
        told = told or Told()
        return ConnectionAuthenticated(
            conn=self.conn,
            peer=self.endpoints.peer,
            user=self.user,
            fingerprint=self.identity.fingerprint,
            source=self.accepted.key.source,
            client=self.client,
            cipher=self.cipher,
            seconds=round(seconds, 3),
            identity=self.identity,
            probation=self.probation,
            hassh=self.hassh,
            hassh_server=told.hassh_server,
            algorithms=told.algorithms,
            previous=told.previous,
            break_glass=self.break_glass,
        )


def essence(accepted: Accept) -> Accept:
    """The part of an acceptance that shows later whether it still holds: a tenth of it, to save memory.

    Conditions count at the login only, and so do a certificate's principals and signature, which were verified then.
    The key id is kept, because a certificate may still be revoked by it.
    """
    certificate = accepted.certificate
    if certificate is not None:
        certificate = msgspec.structs.replace(
            certificate,
            key_id=short_id(certificate.key_id),
            principals=(),
            critical_options=(),
            extensions=(),
            signed=b"",
            signature=b"",
        )
    key = msgspec.structs.replace(accepted.key, comment="", options=NO_OPTIONS)
    return msgspec.structs.replace(accepted, key=key, options=NO_OPTIONS, certificate=certificate)


def digest(blob: bytes) -> bytes:
    """The digest by which a host key is recognised."""
    return sha256(blob).digest()

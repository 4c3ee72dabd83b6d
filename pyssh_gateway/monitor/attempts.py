"""One client's attempts to log in: decided by `core.access.policy`, proved by its signatures, told to the bus.

A security decision in here never awaits, so a key is judged by the same snapshot that it was found in. The key files
are read before the decision. Before a key is denied as unknown, the sources may be asked again, and then everything is
decided anew.

The preauth process is not trusted: it can set the session id only once, and the data that a signature is verified over
is made here. This module does not know SSH's protocol beyond that data.
"""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from pyssh_gateway.config.types import Limits
from pyssh_gateway.core.access import policy
from pyssh_gateway.core.access.authorized_keys import KeySnapshot, fingerprint
from pyssh_gateway.core.access.denials import (
    NO_KEY,
    OTHER_METHOD,
    UNKNOWN_ACCOUNT,
    WRONG_CERTIFICATE,
    WRONG_SIGNATURE,
    Deny,
)
from pyssh_gateway.core.access.freshness import Patience
from pyssh_gateway.core.access.wire import string
from pyssh_gateway.core.limits import AttemptBudget, TooMany, too_many
from pyssh_gateway.events import AnyEvent, AuthAttempt
from pyssh_gateway.ipc.preauth import MAX_NAME, Answer, Attempt, Sign, Signed
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.signatures import certificate_verified, read_proof, verified

_USERAUTH_REQUEST = b"\x32"
"""SSH_MSG_USERAUTH_REQUEST (RFC 4252 section 6)."""


class ViolationError(Exception):
    """The client's side has sent a request that a correct process never sends: the process has to be ended."""


class Services(Protocol):
    """What attempts are judged by.

    `read_files` returns when the contents of the key files are known; `look_again` (peer, fingerprint) when there is no
    point in waiting longer for news of a key, or when the connection has waited enough. `clock` is Unix time.
    """

    @property
    def limits(self) -> Limits:
        """The limits of the configuration."""

    @property
    def signer(self) -> HostKeySigner:
        """The server's keys."""

    @property
    def publish(self) -> Callable[[AnyEvent], None]:
        """The bus."""

    @property
    def snapshot(self) -> Callable[[], KeySnapshot]:
        """The people's keys."""

    @property
    def read_files(self) -> Callable[[Patience], Awaitable[None]]:
        """See above."""

    @property
    def look_again(self) -> Callable[[str, str, Patience], Awaitable[None]]:
        """See above."""

    @property
    def clock(self) -> Callable[[], float]:
        """See above."""


class Attempts:
    """The attempts of one connection, `conn`, from the address `peer`.

    `session_id` is the hash that was signed for it, empty before. `accepted` is the decision that let its client in,
    None until then, and `proved` the key or certificate that it accepted. `in_vain` are the fingerprints of the keys
    that the client has offered and that nobody knew. `too_many` is what the client is told once it has used up its
    attempts.
    """

    def __init__(self, conn: str, peer: str, services: Services) -> None:
        self.session_id = b""
        self.user: bytes | None = None
        self.accepted: policy.Accept | None = None
        self.proved = b""
        self.in_vain: tuple[str, ...] = ()
        self.too_many: TooMany | None = None
        self._conn = conn
        self._peer = peer
        self._services = services
        self._budget = AttemptBudget(services.limits.auth_attempts)
        self._is_pending = False
        self._is_told = False
        # Two budgets, so that servers that do not answer can't keep the key files from being read.
        self._file_patience, self._look_patience = Patience(), Patience()

    async def sign(self, asked: Sign) -> Signed:
        """Sign the exchange hash, which is the session id from now on. Raises ViolationError for a second one."""
        if self.session_id:
            raise ViolationError("a second signature was asked for")
        try:
            signature = self._services.signer.sign(asked.algorithm, asked.hash)
        except ValueError as error:
            raise ViolationError(str(error)) from None
        self.session_id = asked.hash
        return Signed(signature)

    async def attempt(self, asked: Attempt) -> Answer:
        """Judge a request. Raises ViolationError for one that comes at a wrong time or for another account."""
        if self.accepted is not None or self._is_pending or not self.session_id:
            raise ViolationError("an attempt at a wrong time")
        if self.user is None:
            self.user = asked.user
        if asked.user != self.user:  # sshd: "Change of username or service not allowed"
            raise ViolationError("an attempt for another account")
        if not self._budget.request():
            return self._last(asked)
        self._is_pending = True
        try:
            result = await self._judge(asked)
        finally:
            self._is_pending = False
        if result == "denied" and not self._budget.failure(asked.method):
            return self._last(asked)
        return Answer(result, last=False)

    def ended(self) -> None:
        """The connection is over: log the account that was asked for, if none of its requests was logged.

        Every client begins with `none`, so that request is not logged by itself; a client without a key sends no other.
        """
        if self.user is not None and not self._is_told:
            self._report(policy.Attempt(self.user, "", b"", None), "denied", method="none", denial=NO_KEY)

    def _last(self, asked: Attempt) -> Answer:
        self.too_many = too_many(self._services.limits.auth_attempts, asked.method)
        return Answer("denied", last=True, message=self.too_many.message)

    async def _judge(self, asked: Attempt) -> Literal["offered", "accepted", "denied"]:
        if asked.method not in {"publickey", "none"}:
            self._report_denied(asked, OTHER_METHOD)
        elif not (asked.user.isascii() and asked.user.decode("ascii").isprintable()):
            # No account has such a name; a key in the request is not looked at.
            self._report_denied(asked, UNKNOWN_ACCOUNT)
        elif asked.method == "publickey":
            return await self._judge_key(asked)
        # `none` is how clients ask which methods there are (RFC 4252 section 5.2), and every login begins with it.
        return "denied"

    async def _judge_key(self, asked: Attempt) -> Literal["offered", "accepted", "denied"]:
        """Decide a `publickey` request (RFC 4252 section 7); without a signature the key is only offered."""
        attempt = policy.Attempt(
            user=asked.user,
            algorithm=asked.algorithm,
            blob=asked.blob,
            proof=None if asked.signature is None else read_proof(asked.signature),
            peer=self._peer,
        )
        await self._services.read_files(self._file_patience)
        outcome = self._decide(attempt)
        if isinstance(outcome, Deny) and not outcome.final:
            await self._services.look_again(attempt.peer, fingerprint(asked.blob), self._look_patience)
            outcome = self._decide(attempt)
        # From here to the answer nothing awaits, so the decision still holds.
        if isinstance(outcome, Deny):
            self.in_vain += () if outcome.final else (fingerprint(asked.blob),)
            self._report(attempt, "denied", denial=outcome)
            return "denied"
        if outcome.certificate is not None and not certificate_verified(outcome.certificate):
            self._report(attempt, "denied", denial=WRONG_CERTIFICATE)
            return "denied"
        if asked.signature is None:
            self._report(attempt, "offered", accepted=outcome)
            return "offered"
        # The decision has checked the touch that a security key reports; if none is required, it may be missing.
        touch_required = outcome.options.touch_required
        if not verified(outcome.signer, self._signed(asked), asked.signature, touch_required=touch_required):
            self._report(attempt, "denied", accepted=outcome, denial=WRONG_SIGNATURE)
            return "denied"
        self.accepted, self.proved = outcome, asked.blob
        self._report(attempt, "accepted", accepted=outcome)
        return "accepted"

    def _decide(self, attempt: policy.Attempt) -> policy.Accept | Deny:
        return policy.decide(attempt, self._services.snapshot(), self._services.clock())

    def _signed(self, asked: Attempt) -> bytes:
        """What the client has to have signed (RFC 4252 section 7)."""
        return b"".join(
            (
                string(self.session_id),
                _USERAUTH_REQUEST,
                string(asked.user),
                string(b"ssh-connection"),
                string(b"publickey"),
                b"\x01",
                string(asked.algorithm.encode()),
                string(asked.blob),
            )
        )

    def _report_denied(self, asked: Attempt, denial: Deny) -> None:
        """Report a request in which no key was looked at."""
        self._report(policy.Attempt(asked.user, "", b"", None), "denied", method=asked.method, denial=denial)

    def _report(
        self,
        attempt: policy.Attempt,
        result: Literal["accepted", "offered", "denied"],
        *,
        method: str = "publickey",
        accepted: policy.Accept | None = None,
        denial: Deny | None = None,
    ) -> None:
        self._is_told = True
        certificate = accepted.certificate if accepted is not None else None
        key_type = attempt.algorithm[:MAX_NAME] if accepted is None else accepted.key.key_type
        known_as = fingerprint(attempt.blob) if attempt.blob else ""
        self._services.publish(
            AuthAttempt(
                conn=self._conn,
                peer=self._peer,
                user=attempt.user.decode("utf-8", "surrogateescape"),
                method=method,
                result=result,
                reason="" if denial is None else denial.reason,
                code="" if denial is None else denial.code.value,
                key_type=key_type if certificate is None else certificate.key_type,
                fingerprint=known_as if accepted is None else accepted.identity.fingerprint,
                source=accepted.key.source if accepted is not None else "",
                identity=accepted.identity if accepted is not None else None,
            )
        )

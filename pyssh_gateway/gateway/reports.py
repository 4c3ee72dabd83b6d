"""The answers to what is asked over the control socket, put together from the gateway's parts."""

from collections.abc import Callable

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.core import control
from pyssh_gateway.core.idle import IdleTracker
from pyssh_gateway.core.key_report import login_reports, verdicts
from pyssh_gateway.gateway.control import Handlers, Unanswerable
from pyssh_gateway.gateway.registry import Registry
from pyssh_gateway.gateway.signatures import certificate_verified
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.keyring import Keyring


class Reporter(msgspec.Struct, frozen=True):
    """Where the facts are. `since` is Unix time, `clock` gives it; `now` is the loop's, as the idle tracker has it."""

    keyring: Keyring
    registry: Registry
    idle: IdleTracker
    host_keys: tuple[HostKey, ...]
    endpoint: tuple[str, int]
    idle_timeout: float | None
    pid: int
    since: float
    clock: Callable[[], float]
    now: Callable[[], float]

    @property
    def handlers(self) -> Handlers:
        """What answers each request."""
        return Handlers(
            status=self.status,
            keys=self.keys,
            refresh_keys=self.refresh_keys,
            try_key=self.try_key,
            accept_account=self.accept_account,
        )

    def status(self) -> control.StatusReply:
        """The server and who is on."""
        address, port = self.endpoint
        return control.StatusReply(
            version=__version__,
            pid=self.pid,
            since=self.since,
            address=address,
            port=port,
            host_keys=tuple(control.HostKeyReport(key.key_type, key.fingerprint, key.next) for key in self.host_keys),
            connections=tuple(client.report() for client in self.registry.clients if client.user),
            authenticating=len(self.registry.authenticating),
            idle=control.IdleReport(self.idle_timeout, self.idle.in_use, self.idle.stops_in(self.now())),
            sources=tuple(source for source in self._sources() if source.failure or source.stale),
        )

    def keys(self) -> control.KeysReply:
        """Who can log in with what."""
        return control.KeysReply(login_reports(self.keyring.snapshot), self._sources())

    async def refresh_keys(self) -> control.KeysReply:
        """The same, after every source has been asked."""
        await self.keyring.refresh_all()
        return self.keys()

    def try_key(self, request: control.TryKey) -> control.VerdictsReply:
        """Whether a key would be let in."""
        return control.VerdictsReply(verdicts(request, self.keyring.snapshot, self.clock(), certificate_verified))

    async def accept_account(self, source: str) -> control.AcceptedReply:
        """Trust the account that has the name of `source` now."""
        reason = await self.keyring.accept(source)
        if reason is not None:
            raise Unanswerable(reason)
        await self.keyring.settled()
        failures = [status.failure for status in self.keyring.describe() if status.spec == source and status.failure]
        if failures:
            raise Unanswerable(f"the account that has this name now will be trusted, but {failures[0]}")
        return control.AcceptedReply(f"{source} means the account that has this name now")

    def _sources(self) -> tuple[control.SourceReport, ...]:
        statuses = self.keyring.describe()
        return tuple(msgspec.convert(status, control.SourceReport, from_attributes=True) for status in statuses)

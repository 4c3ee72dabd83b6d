"""The answers to what is asked over the control socket, put together from the monitor's parts.

Answers for accounts that may not know everything are cut down here.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.config.source import Endpoint, shown_endpoint
from pyssh_gateway.core import control
from pyssh_gateway.core.access.key_report import login_reports, revoked_list_reports, verdicts
from pyssh_gateway.core.idle import explain, nobody
from pyssh_gateway.core.idle.tracker import IdleTracker
from pyssh_gateway.ipc.config_origin import ConfigOrigin
from pyssh_gateway.ipc.reread import digest
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.machine import history
from pyssh_gateway.monitor import host_certificates
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.in_force import InForce
from pyssh_gateway.monitor.lifetime.awake import Awake
from pyssh_gateway.monitor.lifetime.for_nobody import ForNobody
from pyssh_gateway.monitor.lifetime.holds import Holds
from pyssh_gateway.monitor.reporting.control import Asker, Handlers, Unanswerable
from pyssh_gateway.monitor.signatures import certificate_verified

SHOWN_STOPS = 10
"""How many earlier stops are reported: half a screen."""


class Reporter(msgspec.Struct, frozen=True):
    """Has the facts for the answers. `clock` gives Unix time; `now` is the loop's, as the idle tracker has it.

    `since` is when this server process began. If an earlier one has crashed, that is later than when the machine awoke,
    which `awake` has. `stops` is the directory that earlier stops are written down in.
    """

    keyring: Keyring
    registry: Clients
    idle: IdleTracker
    in_force: InForce
    holds: Holds
    awake: Awake
    for_nobody: ForNobody
    log: AuditLog
    host_keys: tuple[HostKey, ...]
    signer: HostKeySigner
    endpoints: tuple[Endpoint, ...]
    origin: ConfigOrigin
    since: float
    clock: Callable[[], float]
    now: Callable[[], float]
    stops: Path = Path()

    @property
    def handlers(self) -> Handlers:
        """The handler of each request."""
        return Handlers(
            configuration=self.configuration,
            status=self.status,
            keys=self.keys,
            refresh_keys=self.refresh_keys,
            try_key=self.try_key,
            accept_account=self.accept_account,
            sessions=self.sessions,
            why=self.why,
            hold=self.holds.hold,
            release=self.holds.release,
        )

    def configuration(self) -> control.ConfigReply:
        """What the configuration is read from, and which one is in force."""
        return control.ConfigReply(origin=self.origin.pack(), in_force=digest(self.in_force.config), pid=os.getppid())

    # -- who is on, and for how long ----------------------------------------------------------------------------

    async def status(self, asker: Asker) -> control.StatusReply:
        """The server and its logged-in clients."""
        await self.registry.look()
        address, port = self.endpoints[0]
        sources = self._sources() if asker.may_ask_everything else ()
        return control.StatusReply(
            version=__version__,
            pid=os.getpid(),
            since=self.since,
            address=address,
            port=port,
            addresses=tuple(shown_endpoint(*endpoint) for endpoint in self.endpoints),
            host_keys=self._host_keys(),
            connections=tuple(
                report if _may_see(asker, report) else msgspec.structs.replace(report, sessions=())
                for report in self._connections()
            ),
            authenticating=len(self.registry.strangers),
            idle=self._idle(),
            sources=tuple(source for source in sources if source.failure or source.stale),
            revoked=tuple(listed for listed in revoked_list_reports(self.keyring.snapshot) if listed.failure)
            if asker.may_ask_everything
            else (),
            certificates=tuple(
                one for one in host_certificates.reports(self.signer.certificates, self.clock()) if one.problem
            ),
            for_nobody=self._for_nobody(sources=asker.may_ask_everything),
            log=self._log(),
        )

    async def sessions(self, asker: Asker) -> control.SessionsReply:
        """The sessions of each client."""
        await self.registry.look()
        return control.SessionsReply(tuple(report for report in self._connections() if _may_see(asker, report)))

    def why(self) -> control.WhyReply:
        """What keeps the machine up, and what stopped it before."""
        return control.WhyReply(
            since=self.awake.since,
            woken_by=self.awake.woken_by,
            policy=explain.policy(self.in_force.config.idle),
            idle=self._idle(),
            holds=self.holds.reports(),
            stops=tuple(
                control.StopReport(
                    time=stop.time,
                    why=explain.stop_reason(stop.reason, stop.detail),
                    awake=max(0.0, stop.time - stop.since),
                    for_nobody=stop.for_nobody,
                )
                for stop in reversed(history.read(self.stops)[-SHOWN_STOPS:])
            ),
            for_nobody=self._for_nobody(sources=True),
        )

    def _for_nobody(self, *, sources: bool) -> control.ForNobodyReport:
        """How often the machine was awake for nobody; `sources`: and what woke it."""
        known = self.for_nobody.summary()
        return control.ForNobodyReport(
            days=nobody.DAYS,
            count=known.total.count,
            seconds=round(known.total.seconds, 1),
            sources=tuple(
                control.SourceOfWakesReport(
                    kind=entry.source.kind,
                    source=entry.source.name,
                    count=entry.tally.count,
                    seconds=round(entry.tally.seconds, 1),
                    since=entry.tally.first,
                    until=entry.tally.last,
                )
                for entry in known.entries
                if sources
            ),
            others=known.others.count if sources else 0,
        )

    def _log(self) -> control.LogReport | None:
        trouble, lost = self.log.trouble, self.log.lost["file"]
        if trouble is None and not lost:
            return None
        return control.LogReport(trouble, self.in_force.config.audit.required, self.log.waiting, lost)

    def _connections(self) -> tuple[control.ConnectionReport, ...]:
        return tuple(client.report() for client in self.registry.clients)

    def _idle(self) -> control.IdleReport:
        now = self.now()
        # Asked first, because it drops reasons that are over by now.
        reasons = tuple(
            control.ReasonReport(one.kind, one.text, None if one.until is None else max(0.0, one.until - now))
            for one in self.idle.reasons(now)
        )
        timeout = self.in_force.config.idle.timeout
        return control.IdleReport(
            timeout=None if timeout is None else float(timeout),
            in_use=self.idle.in_use,
            stops_in=self.idle.stops_in(now),
            reasons=reasons,
            quiet=self.idle.quiet,
        )

    # -- keys ---------------------------------------------------------------------------------------------------

    def keys(self) -> control.KeysReply:
        """The keys that can log in, by account."""
        snapshot = self.keyring.snapshot
        return control.KeysReply(
            login_reports(snapshot),
            self._sources(),
            revoked_list_reports(snapshot),
            self._host_keys(),
            host_certificates.reports(self.signer.certificates, self.clock()),
        )

    async def refresh_keys(self) -> control.KeysReply:
        """The same, after every source has been asked."""
        await self.keyring.refresh_all()
        return self.keys()

    async def try_key(self, request: control.TryKey) -> control.VerdictsReply:
        """Whether a key would be let in, by the files as they are now."""
        await self.keyring.looks.read_files(anew=True)
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

    def _host_keys(self) -> tuple[control.HostKeyReport, ...]:
        return tuple(
            control.HostKeyReport(key.key_type, key.fingerprint, key.next, key.created, key.was_empty, key.spare)
            for key in self.host_keys
        )

    def _sources(self) -> tuple[control.SourceReport, ...]:
        statuses = self.keyring.describe()
        return tuple(msgspec.convert(status, control.SourceReport, from_attributes=True) for status in statuses)


def _may_see(asker: Asker, report: control.ConnectionReport) -> bool:
    """Whether somebody may know what runs there. The processes of one's own account can be seen anyway."""
    return asker.may_ask_everything or asker.user == report.user

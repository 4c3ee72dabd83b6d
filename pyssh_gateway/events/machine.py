"""Events about what keeps the machine up and what stops it, the boot, and requests over the control socket."""

from typing import Literal

from pyssh_gateway.events.base import Event, Identity


class ClientQuiet(Event, frozen=True, kw_only=True, tag="client.quiet"):
    """A client has not been used for `seconds`: it does not keep the machine up any more (`idle.client_idle`)."""

    conn: str
    user: str
    seconds: float
    identity: Identity | None = None


class ClientUsed(Event, frozen=True, kw_only=True, tag="client.used"):
    """A client that was quiet is used again, and keeps the machine up."""

    conn: str
    user: str
    identity: Identity | None = None


class ClientUse(Event, frozen=True, kw_only=True, tag="client.use"):
    """When a client was used: `spans` of whole seconds since its connection was opened, in order.

    Published at the end of the connection, when many spans have gathered, and when the server stops.
    """

    conn: str
    user: str
    spans: tuple[tuple[int, int], ...]
    identity: Identity | None = None


class HoldStarted(Event, frozen=True, kw_only=True, tag="hold.started"):
    """An account holds the machine up for `seconds` from now. `pid` is the process for which it is held, 0 for none."""

    hold: str
    user: str
    seconds: float
    reason: str
    pid: int


class HoldEnded(Event, frozen=True, kw_only=True, tag="hold.ended"):
    """A hold has ended: "released", "expired", "the command has ended"."""

    hold: str
    user: str
    why: str


class BackgroundWork(Event, frozen=True, kw_only=True, tag="background.work"):
    """Processes of ended sessions are working: that holds the machine for `seconds`; 0: not any more."""

    seconds: float
    what: str

    @property
    def is_over(self) -> bool:
        """Whether the machine is not held any more: the processes have stopped, or have used up their time."""
        return self.seconds == 0


class BackgroundSeen(Event, frozen=True, kw_only=True, tag="background.seen"):
    """Processes of sessions have worked while clients were on that nobody used.

    `spans` are pairs of whole seconds: how long ago the work was first and last seen.
    """

    spans: tuple[tuple[int, int], ...]


class TerminalUsed(Event, frozen=True, kw_only=True, tag="terminal.used"):
    """Somebody uses a terminal without a connection of ours (mosh): `what` says who, and which terminals."""

    what: str


class TerminalQuiet(Event, frozen=True, kw_only=True, tag="terminal.quiet"):
    """Nobody uses such a terminal any more, or another reason keeps the machine up, and terminals are not watched."""

    what: str


class ScheduleEntered(Event, frozen=True, kw_only=True, tag="schedule.entered"):
    """It is one of the hours in which the machine stays up, `what`, for `seconds` more."""

    seconds: float
    what: str


class MachineResumed(Event, frozen=True, kw_only=True, tag="machine.resumed"):
    """The machine was suspended, or its clock was set: `seconds` have passed unnoticed."""

    seconds: float


class StopStep(Event, frozen=True, kw_only=True, tag="stop.step"):
    """A step in stopping the machine: a hook, the platform's API, a command. `outcome` is "ok" or the reason why not.

    `result` is the code of the outcome. "called_off": the step was not taken, since the machine is needed again.
    """

    step: str
    outcome: str
    result: Literal["done", "failed", "called_off"]
    seconds: float


class BootStep(Event, frozen=True, kw_only=True, tag="boot.step"):
    """Something was made at boot: a link, a directory, an account. `outcome` is "ok", "unchanged" or an error."""

    step: str
    outcome: str


class ServiceStarted(Event, frozen=True, kw_only=True, tag="service.started"):
    """A service runs. `restarts` counts how often it has been started again."""

    service: str
    pid: int
    restarts: int


class ServiceEnded(Event, frozen=True, kw_only=True, tag="service.ended"):
    """A service has ended: `cause` is its exit code or signal. `again` is in seconds, None: it is not started again."""

    service: str
    pid: int
    cause: str
    again: float | None


class ServiceOutput(Event, frozen=True, kw_only=True, tag="service.output"):
    """A line that a service wrote."""

    service: str
    line: str


class ControlRequest(Event, frozen=True, kw_only=True, tag="control.request"):
    """A process on the machine sent a request over the control socket. `uid` is from the kernel (SO_PEERCRED)."""

    uid: int
    pid: int
    command: str
    outcome: str


class IdleTick(Event, frozen=True, kw_only=True, tag="idle.tick"):
    """The machine is idle. `idle` and `remaining` are whole seconds."""

    idle: int
    remaining: int
    message: str


class IdleReached(Event, frozen=True, kw_only=True, tag="idle.reached"):
    """The idle timeout has passed, and the server has checked a last time. "stay": the stop is called off."""

    idle: float
    outcome: Literal["stop", "stay"]
    message: str


StayEvent = (
    ClientQuiet
    | ClientUsed
    | ClientUse
    | HoldStarted
    | HoldEnded
    | BackgroundWork
    | BackgroundSeen
    | TerminalUsed
    | TerminalQuiet
    | ScheduleEntered
)
"""Events about what keeps the machine up."""

"""What keeps the machine up and what stops it, what is started at boot, and what people on it ask."""

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


class HoldStarted(Event, frozen=True, kw_only=True, tag="hold.started"):
    """Somebody holds the machine up for `seconds`, or for longer. `pid` is the process that it is for, 0 for none."""

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
    """Processes of sessions work though nobody is on: that holds the machine for `seconds`; 0: not any more."""

    seconds: float
    what: str

    @property
    def is_over(self) -> bool:
        """Whether the machine is not held any more: they have stopped, or have had all that they are allowed."""
        return self.seconds == 0


class TerminalUsed(Event, frozen=True, kw_only=True, tag="terminal.used"):
    """Somebody is at a terminal that no connection leads to (mosh): `what` says who, and at which ones."""

    what: str


class TerminalQuiet(Event, frozen=True, kw_only=True, tag="terminal.quiet"):
    """Nobody is at such a terminal any more, or somebody else keeps the machine up, and nobody looks."""

    what: str


class ScheduleEntered(Event, frozen=True, kw_only=True, tag="schedule.entered"):
    """It is one of the hours in which the machine stays up, `what`, for `seconds` more."""

    seconds: float
    what: str


class MachineResumed(Event, frozen=True, kw_only=True, tag="machine.resumed"):
    """The machine was suspended, or its clock was set: `seconds` have passed that nobody has seen."""

    seconds: float


class StopStep(Event, frozen=True, kw_only=True, tag="stop.step"):
    """Something was done to stop the machine: a hook, the platform's API, a command. `outcome` is "ok" or why not.

    `result` is the code for that. "called_off": the step was not taken, since the machine is needed again.
    """

    step: str
    outcome: str
    result: Literal["done", "failed", "called_off"]
    seconds: float


class BootStep(Event, frozen=True, kw_only=True, tag="boot.step"):
    """Something was made at boot: a link, a directory, an account. `outcome` is "ok", "unchanged" or why not."""

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
    """Somebody on the machine asked the server something over its control socket. `uid` is what the kernel says."""

    uid: int
    pid: int
    command: str
    outcome: str


class IdleTick(Event, frozen=True, kw_only=True, tag="idle.tick"):
    """Nobody is on. `idle` and `remaining` are whole seconds."""

    idle: int
    remaining: int
    message: str


class IdleReached(Event, frozen=True, kw_only=True, tag="idle.reached"):
    """The idle timeout has passed, and the server has looked a last time. "stay": the stop is called off."""

    idle: float
    outcome: Literal["stop", "stay"]
    message: str

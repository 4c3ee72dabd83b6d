"""All events, as one tagged union of frozen messages, and the bus that carries them.

Every part of the server says what happened by publishing one of these; the audit log, the idle tracker and others
subscribe. This module knows nothing about where an event comes from or goes to.

Field conventions: `conn` and `session` are the ids of a connection and a session in the log; `peer` is the client's
address without the port; durations are seconds; text that came from the network is stored as it arrived (undecodable
bytes as surrogate escapes) and made safe to print only where it is printed.
"""

import msgspec

from pyssh_gateway.events.base import Algorithms, Event, Identity, PreviousLogin
from pyssh_gateway.events.connections import (
    SESSION_ENDED,
    AuthAttempt,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    ConnectionReinstated,
    ConnectionRevoked,
    FileOperation,
    ForwardClosed,
    ForwardListening,
    ForwardOpened,
    RecordingEnded,
    RecordingStarted,
    RequestDenied,
    SessionClosed,
    SessionExited,
    SessionOpened,
)
from pyssh_gateway.events.keys import (
    AccountChanged,
    KeysFailed,
    KeysLoaded,
    RevokedListFailed,
    RevokedListLoaded,
)
from pyssh_gateway.events.machine import (
    BackgroundSeen,
    BackgroundWork,
    BootStep,
    ClientQuiet,
    ClientUse,
    ClientUsed,
    ControlRequest,
    HoldEnded,
    HoldStarted,
    IdleReached,
    IdleTick,
    MachineResumed,
    ScheduleEntered,
    ServiceEnded,
    ServiceOutput,
    ServiceStarted,
    StopStep,
    TerminalQuiet,
    TerminalUsed,
)
from pyssh_gateway.events.server import (
    AuditLimited,
    AuditLost,
    AuditReopened,
    ConfigRejected,
    ConfigReloaded,
    GatewayCrashed,
    HostCertificateLoaded,
    HostKeyCreated,
    InternalError,
    ServerStarted,
    ServerStopped,
    ServerStopping,
)

__all__ = [
    "SESSION_ENDED",
    "AccountChanged",
    "Algorithms",
    "AnyEvent",
    "AuditLimited",
    "AuditLost",
    "AuditReopened",
    "AuthAttempt",
    "BackgroundSeen",
    "BackgroundWork",
    "BootStep",
    "ClientQuiet",
    "ClientUse",
    "ClientUsed",
    "ConfigRejected",
    "ConfigReloaded",
    "ConnectionAuthenticated",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionRefused",
    "ConnectionReinstated",
    "ConnectionRevoked",
    "ControlRequest",
    "Event",
    "FileOperation",
    "ForwardClosed",
    "ForwardListening",
    "ForwardOpened",
    "GatewayCrashed",
    "HoldEnded",
    "HoldStarted",
    "HostCertificateLoaded",
    "HostKeyCreated",
    "Identity",
    "IdleReached",
    "IdleTick",
    "InternalError",
    "KeysFailed",
    "KeysLoaded",
    "MachineResumed",
    "OnesEvent",
    "Origin",
    "PreviousLogin",
    "Record",
    "RecordingEnded",
    "RecordingStarted",
    "RequestDenied",
    "RevokedListFailed",
    "RevokedListLoaded",
    "ScheduleEntered",
    "ServerStarted",
    "ServerStopped",
    "ServerStopping",
    "ServiceEnded",
    "ServiceOutput",
    "ServiceStarted",
    "SessionClosed",
    "SessionExited",
    "SessionOpened",
    "StopStep",
    "TerminalQuiet",
    "TerminalUsed",
]

AnyEvent = (
    ServerStarted
    | HostKeyCreated
    | HostCertificateLoaded
    | ServerStopping
    | ServerStopped
    | ConfigReloaded
    | ConfigRejected
    | AuditReopened
    | AuditLost
    | AuditLimited
    | GatewayCrashed
    | InternalError
    | KeysLoaded
    | KeysFailed
    | RevokedListLoaded
    | RevokedListFailed
    | AccountChanged
    | ConnectionOpened
    | ConnectionRefused
    | AuthAttempt
    | ConnectionAuthenticated
    | ConnectionClosed
    | ConnectionRevoked
    | ConnectionReinstated
    | RequestDenied
    | SessionOpened
    | SessionExited
    | SessionClosed
    | RecordingStarted
    | RecordingEnded
    | FileOperation
    | ForwardListening
    | ForwardOpened
    | ForwardClosed
    | ClientQuiet
    | ClientUsed
    | ClientUse
    | HoldStarted
    | HoldEnded
    | BackgroundWork
    | BackgroundSeen
    | TerminalUsed
    | TerminalQuiet
    | ScheduleEntered
    | MachineResumed
    | StopStep
    | BootStep
    | ServiceStarted
    | ServiceEnded
    | ServiceOutput
    | ControlRequest
    | IdleTick
    | IdleReached
)


OnesEvent = (
    ConnectionClosed
    | RequestDenied
    | SessionOpened
    | SessionExited
    | SessionClosed
    | FileOperation
    | ForwardListening
    | ForwardOpened
    | ForwardClosed
    | ClientQuiet
    | ClientUsed
    | ClientUse
)
"""Events of a connection; `identity` is filled in where it is known."""


class Origin(msgspec.Struct, frozen=True):
    """The report that an event comes from: report `number` of the postauth process `process`."""

    process: int
    number: int


class Record(msgspec.Struct, frozen=True):
    """An event with its place in the stream: `seq` counts from 1 without gaps, `time` is Unix time in seconds.

    An event that is not logged has the `seq` 0.

    `origin` is that of an event that waits in another process until the log has it; None for all others.
    """

    seq: int
    time: float
    event: AnyEvent
    origin: Origin | None = None

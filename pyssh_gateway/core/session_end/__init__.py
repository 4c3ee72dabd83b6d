"""How a session ends: a state machine that turns facts into due actions, and does no I/O itself.

A session ends as in sshd: when its process has been reaped and the process's output has been sent, with exit-status,
EOF, close. The facts come in any order: the exit comes from the spawner, the outputs' ends from the kernel, and the
client closes the channel, or says that it takes no more output, whenever it likes. `step` takes one fact and returns
the new state and the actions that are due now, in their order:

    state, due = step(state, fact)

Each fact is first recorded in the `State`; then the table in `_next` says what follows from everything known. Once the
channel is closed, by us or by the client, nothing is due on it any more, although every fact may still come.

A client is told the exit status after the log has it: first `Log` is due, and what follows waits for `Logged`. So a
client that knows how its command has ended can rely on finding that in the log, whichever of our processes dies.
"""

from pyssh_gateway.core.session_end.due import (
    Close,
    Drain,
    Due,
    Ending,
    HangUp,
    LogEnd,
    LogExit,
    RefuseInput,
    Release,
    SayWhy,
    SendEof,
    StopWaiting,
    TellExit,
    Wait,
)
from pyssh_gateway.core.session_end.facts import (
    Answer,
    Drained,
    Entry,
    Exited,
    Fact,
    Gone,
    Logged,
    NoProcess,
    Output,
    OutputEnded,
    OutputRefused,
    Started,
    Stopping,
    TimeOver,
    Timer,
    Way,
    WayChanged,
)
from pyssh_gateway.core.session_end.machine import (
    DRAIN_BYTES,
    EOF_GRACE_SECONDS,
    EXIT_GRACE_SECONDS,
    INPUT_SECONDS,
    Channel,
    State,
    step,
)

__all__ = [
    "DRAIN_BYTES",
    "EOF_GRACE_SECONDS",
    "EXIT_GRACE_SECONDS",
    "INPUT_SECONDS",
    "Answer",
    "Channel",
    "Close",
    "Drain",
    "Drained",
    "Due",
    "Ending",
    "Entry",
    "Exited",
    "Fact",
    "Gone",
    "HangUp",
    "LogEnd",
    "LogExit",
    "Logged",
    "NoProcess",
    "Output",
    "OutputEnded",
    "OutputRefused",
    "RefuseInput",
    "Release",
    "SayWhy",
    "SendEof",
    "Started",
    "State",
    "StopWaiting",
    "Stopping",
    "TellExit",
    "TimeOver",
    "Timer",
    "Wait",
    "Way",
    "WayChanged",
    "step",
]

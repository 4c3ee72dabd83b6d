"""The commands `audit ...` that play recordings: a part of the table of commands."""

from pyssh_gateway.cli.reference.model import Argument, Command, Example, Exit, Group, Option, Values
from pyssh_gateway.cli.reference.shared_options import CONFIG, DIRECTORY

_SESSION = Argument(
    "SESSION", "such as c12.1, or amos/c12.1 for that account's; or a recording's file", values=Values.FILES
)

_REPLAY = Command(
    "audit replay",
    Group.AUDIT,
    "play the recording of a session",
    run="pyssh_gateway.cli.audit.replay:replay",
    options=(
        Option("--speed", "so many times as fast (default: 1)", value="N", default="1"),
        Option("--idle-limit", "wait no longer for anything to happen (default: 2s)", value="TIME", default="2s"),
        Option("--at", "begin there", value="TIME", default="0s"),
        Option("--search", "begin, paused, where this was shown first; n and N go to the others", value="TEXT"),
        Option("--format", "do not play it, write it as asciicast", value="VERSION", choices=("v2", "v3")),
        Option("--output", "with --format: to this new file", value="FILE", values=Values.FILES, short="-o"),
        DIRECTORY,
        CONFIG,
    ),
    arguments=(_SESSION,),
    details="""
Space pauses, . is one step; + and - change the speed; left and right go 5 seconds, down and up a minute; [ and ] go to
the command (or marker) before and after; home and end; q quits. Commands are known where the shell marks them: see
pyssh-gateway shell-marks.

Only what draws on the screen reaches the terminal. It should be as large as the recorded one. If standard output is no
terminal, all output is written at once.
""",
    examples=(
        Example("pyssh-gateway audit replay c12.1 --speed 2", "twice as fast"),
        Example("pyssh-gateway audit replay c12.1 --search 'permission denied'", "what led to it"),
        Example("pyssh-gateway audit replay c12.1 --format v2 -o c12.1.cast", "for a player of asciinema's"),
    ),
    exits=(Exit(1, "there is no such recording, it can't be read, or it has never shown the text"),),
)

_WATCH = Command(
    "audit watch",
    Group.AUDIT,
    "show a recorded session while it goes on",
    run="pyssh_gateway.cli.audit.watch:watch",
    options=(DIRECTORY, CONFIG),
    arguments=(_SESSION,),
    details="""
Shows what the session's terminal shows, about a second later, until the session ends; q or Ctrl-C quits. Nothing that
is typed reaches the session.
""",
    exits=(Exit(1, "there is no recording of that session, or it can't be read"),),
)

RECORDINGS: tuple[Command, ...] = (_REPLAY, _WATCH)

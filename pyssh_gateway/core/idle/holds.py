"""Holds: what may be asked to keep the machine up, for how long, whose it is, and what of it outlives a crash.

A hold always ends: when its time is over, when it is released, or when the process that it is for has ended. Pure: the
clock, the identifiers and what is known of a process come in.
"""

from collections.abc import Sequence

import msgspec

from pyssh_gateway.config.values import format_duration

MAX_PER_ACCOUNT = 32
"""Holds of one account at a time: a job on each processor of a large machine, with a hold each."""

MAX_HOLDS = 128
"""Holds in all; each is a timer, perhaps a descriptor, and a line for whoever asks why the machine is up."""

MAX_REASON = 200
"""Characters kept of a reason: two lines of a terminal. Everybody who asks reads all of them."""

NO_REASON = "no reason given"

MAX_STATE_BYTES = 256 * 1024
"""What is written down of all holds at most: four times what `MAX_HOLDS` with the longest reasons take."""


class NotGranted(Exception):
    """What was asked can't be; one line for a person."""


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody holds the machine up from `since` until `until`, Unix times.

    `uid` may end it. `pid` is the process that it is for, and `started` when that began, in the kernel's clock ticks:
    the two together mean one process and no later one. 0 for both: the hold is for a time alone; 0 for `started`
    alone: it could not be known.
    """

    id: str
    uid: int
    user: str
    reason: str
    since: float
    until: float
    pid: int = 0
    started: int = 0


class Wish(msgspec.Struct, frozen=True):
    """What is asked for by the account `user`. `seconds` None: as long as may be. `pid`, `started`: as in `Hold`."""

    uid: int
    user: str
    reason: str
    seconds: float | None
    pid: int = 0
    started: int = 0


def grant(wish: Wish, holds: Sequence[Hold], *, limit: float, now: float, id_: str) -> Hold:
    """The hold that is wished for, beside `holds`, for at most `limit` seconds. Raises NotGranted."""
    seconds = limit if wish.seconds is None else wish.seconds
    if not 0 < seconds <= limit:
        longest = format_duration(limit)
        raise NotGranted(
            f"a hold may last {longest} at most on this machine (idle.hold_max): ask for less, and again later"
            if seconds > limit
            else f"a hold has to last for a time, of {longest} at most"
        )
    if sum(hold.uid == wish.uid for hold in holds) >= MAX_PER_ACCOUNT:
        raise NotGranted(f"{wish.user} has {MAX_PER_ACCOUNT} holds already: release one with pyssh-gateway release")
    if len(holds) >= MAX_HOLDS:
        raise NotGranted(f"there are {MAX_HOLDS} holds already, which is all that this machine keeps")
    return Hold(
        id=id_,
        uid=wish.uid,
        user=wish.user,
        reason=clean_reason(wish.reason),
        since=now,
        until=now + seconds,
        pid=wish.pid,
        started=wish.started,
    )


def clean_reason(text: str) -> str:
    """A reason as it is kept: one line, visible characters, `MAX_REASON` of them at most."""
    line = " ".join(text[: 4 * MAX_REASON].split())
    visible = "".join(char if char.isprintable() else "?" for char in line)
    return (visible if len(visible) <= MAX_REASON else visible[: MAX_REASON - 1] + "…") or NO_REASON


def to_release(holds: Sequence[Hold], *, uid: int, any_account: bool, hold: str, every: bool) -> tuple[Hold, ...]:
    """Which of `holds` the account `uid` means; with `any_account` it may name anybody's. Raises NotGranted.

    `hold` names one; empty means the only one that the account has, and with `every` all that it has.
    """
    own = tuple(one for one in holds if one.uid == uid)
    if hold:
        found = tuple(one for one in holds if one.id == hold)
        # Somebody else's is refused like one that is not there: `why` says which there are.
        if not found or (found[0].uid != uid and not any_account):
            raise NotGranted(f"you have no hold {hold}: pyssh-gateway why shows the holds that there are")
        return found
    if every:
        return tuple(holds) if any_account else own
    if not own:
        raise NotGranted("you have no hold")
    if len(own) > 1:
        names = ", ".join(one.id for one in own)
        raise NotGranted(f"you have {len(own)} holds ({names}): name one, or --all")
    return own


def encode(holds: Sequence[Hold]) -> bytes:
    """The holds as they are written down for the next monitor."""
    return msgspec.json.encode(holds) + b"\n"


def decode(data: bytes, *, limit: float, now: float) -> tuple[Hold, ...]:
    """What was written down, with ends that are no further away than they may be; nothing if it is no such text.

    Holds that are over are among them: somebody has to be told of their end.
    """
    try:
        found = msgspec.json.decode(data, type=tuple[Hold, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    # A clock that was set back since, or a smaller `idle.hold_max`, must not make a hold last.
    return tuple(msgspec.structs.replace(hold, until=min(hold.until, now + limit)) for hold in found[:MAX_HOLDS])


def is_same_process(hold: Hold, started: int | None) -> bool:
    """Whether the process that has the hold's `pid` now, and began at `started`, is the one that it is for.

    None: there is none. What could not be known is not guessed: the number may be another process's by now.
    """
    return started is not None and hold.started != 0 and hold.started == started

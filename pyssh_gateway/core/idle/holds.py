"""Holds, with which accounts keep the machine up: their limits, their owners, and how they survive a crash.

A hold always ends: when its time is over, when it is released, or when its process has ended. Pure: the clock, the
identifiers and the facts about a process come in.
"""

from collections.abc import Sequence

import msgspec

from pyssh_gateway.config.values import format_duration

MAX_PER_ACCOUNT = 32
"""Holds of one account at a time: a job on each processor of a large machine, with a hold each."""

MAX_HOLDS = 128
"""Holds in all; each is a timer, perhaps a descriptor, and a line in the answer to `why`."""

MAX_REASON = 200
"""Characters kept of a reason: two lines of a terminal. The answer to `why` has the reasons of all holds."""

NO_REASON = "no reason given"

MAX_STATE_BYTES = 256 * 1024
"""The largest stored state of all holds: four times the size of `MAX_HOLDS` with the longest reasons."""


class NotGranted(Exception):
    """The request can't be granted; the text is one line for a person."""


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hold from `since` until `until`, Unix times.

    `uid` may end it. `pid` is the process for which it is held, and `started` its start in the kernel's clock ticks:
    together they identify one process, even if the pid is reused. 0 for both: the hold is only for a time; 0 for
    `started` alone: the start could not be determined.
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
    """A hold that the account `user` requests. `seconds` None: as long as permitted. `pid`, `started`: see `Hold`."""

    uid: int
    user: str
    reason: str
    seconds: float | None
    pid: int = 0
    started: int = 0


def grant(wish: Wish, holds: Sequence[Hold], *, limit: float, now: float, id_: str) -> Hold:
    """The requested hold, in addition to `holds`, for at most `limit` seconds. Raises NotGranted."""
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
    """A reason as it is stored: one line of visible characters, at most `MAX_REASON`."""
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
        # Another account's hold is refused like one that does not exist; `why` lists the holds.
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
    """The holds, encoded for the next monitor."""
    return msgspec.json.encode(holds) + b"\n"


def decode(data: bytes, *, limit: float, now: float) -> tuple[Hold, ...]:
    """The stored holds, with their ends limited to `limit` seconds from `now`; none if `data` is malformed.

    Expired holds are included, so that their end is still reported.
    """
    try:
        found = msgspec.json.decode(data, type=tuple[Hold, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    # A clock that was set back since, or a smaller `idle.hold_max`, must not make a hold last.
    return tuple(msgspec.structs.replace(hold, until=min(hold.until, now + limit)) for hold in found[:MAX_HOLDS])


def is_same_process(hold: Hold, started: int | None) -> bool:
    """Whether the process that has the hold's `pid` now, and began at `started`, is the one that it is for.

    `started` None: there is no such process. If the hold's own start is unknown, the answer is no: the pid may have
    been reused.
    """
    return started is not None and hold.started != 0 and hold.started == started

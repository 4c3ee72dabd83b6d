"""What is asked for with the options that the commands `audit ...` share."""

import ipaddress
from collections.abc import Iterable
from typing import get_args

from pyssh_gateway.audit.index.queries import Network
from pyssh_gateway.cli.exit_codes import WrongUsage
from pyssh_gateway.cli.reference.parsing import Given, closest
from pyssh_gateway.cli.times import is_clock, moment
from pyssh_gateway.config.values import shown
from pyssh_gateway.core.printable import printable
from pyssh_gateway.events import AnyEvent


def span(given: Given) -> tuple[float | None, float | None]:
    """The time that --since, --until and --at ask for, in Unix time; None: without a bound. Raises WrongUsage."""
    at = getattr(given, "at", None)
    if at is not None:
        if given.since is not None or given.until is not None:
            raise WrongUsage("--at is a moment: it goes with neither --since nor --until")
        return moment("--at", at), moment("--at", at, is_end=True)
    since = None if given.since is None else moment("--since", given.since)
    until = None
    if given.until is not None:
        until = moment("--until", given.until, is_end=True)
        # One that is still to come does not bound anything, unless both are times of a day that is over.
        if not (since is not None and is_clock(given.since) and since <= until):
            until = moment("--until", given.until, is_end=True, may_come=True)
    if since is not None and until is not None and since > until:
        raise WrongUsage("--since is later than --until")
    return since, until


def known(option: str, word: str, names: Iterable[str], few: Iterable[str] = ()) -> str:
    """The one of `names` that is meant, upper and lower case being the same; more may follow behind a comma.

    Raises WrongUsage, with the name that is most similar, or with all names, or a `few` of them.
    """
    folded = word.strip().casefold()
    listed = list(names)
    if folded in listed or folded.partition(",")[0] in listed:
        return folded
    close = closest(folded, listed)
    raise WrongUsage(
        f"{option} {shown(word)} is nothing that the log has",
        f"did you mean {close}?" if close else f"it takes {', '.join(few or listed)}",
    )


def events(words: Iterable[str]) -> tuple[str, ...]:
    """The events that --event asks for, or the first parts of their names. Raises WrongUsage."""
    names = [event.__struct_config__.tag for event in get_args(AnyEvent)]
    kinds = dict.fromkeys(name.partition(".")[0] for name in names)
    return tuple(known("--event", word, (*kinds, *names), kinds).partition(",")[0] for word in words)


def network(given: Given) -> Network | None:
    """The addresses that --from asks for. Raises WrongUsage."""
    if given.network is None:
        return None
    try:
        return ipaddress.ip_network(given.network, strict=False)
    except ValueError:
        wanted = "an address, or a network such as 203.0.113.0/24"
        raise WrongUsage(f"--from takes {wanted}, not {shown(given.network)}") from None


def count(option: str, word: str | None) -> int | None:
    """A number of lines. Raises WrongUsage."""
    if word is None:
        return None
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise WrongUsage(f"{option} takes a number, not {shown(word)}")
    return int(word)


def logged(text: str | None) -> str | None:
    """A text as the log has it: what doesn't print is escaped there, so it is found by its escape."""
    if text is None or text.isprintable():
        return text
    return printable(text)

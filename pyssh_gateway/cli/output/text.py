"""Lines for people about keys, sources and times. Nothing in here prints or asks the server."""

import time
from collections.abc import Iterable

from pyssh_gateway.cli.output.columns import aligned
from pyssh_gateway.core.access.randomart import randomart, short_name
from pyssh_gateway.core.control import (
    HostCertificateReport,
    HostKeyReport,
    KeyReport,
    KeysReply,
    LoginReport,
    RevokedListReport,
    SourceReport,
    Verdict,
)
from pyssh_gateway.core.idle.explain import time_span
from pyssh_gateway.events import Identity

__all__ = ["time_span"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def moment(when: float) -> str:
    """A Unix time on the machine's clock, for people."""
    return time.strftime("%a %b %d %H:%M %Z", time.localtime(when))


def size(count: int) -> str:
    """A number of bytes for people."""
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def number(count: int, what: str) -> str:
    """`1 key`, `2 keys`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def who(identity: Identity | None) -> str:
    """The name of a person, with the number of their account if it is known."""
    return "-" if identity is None else person(identity.person, identity.id)


def person(name: str, account: int | None) -> str:
    """`github:example#583231`, in the notation of a source that is pinned to that account."""
    return name if account is None else f"{name}#{account}"


def key_type(report: KeyReport) -> str:
    """`ED25519`, or, for a type with several sizes, `RSA 3072`."""
    name = short_name(report.key_type)
    return f"{name} {report.bits}" if report.bits not in {0, 256} else name


def keys(reply: KeysReply, *, pictures: bool, width: int | None = None) -> list[str]:
    """The logins with their keys, the sources, and the revoked lists, on a terminal of that width."""
    lines = [*logins(reply.logins, pictures=pictures, width=width), "sources", *sources(reply.sources, width=width)]
    if reply.revoked:
        lines += ["", *revoked_lists(reply.revoked)]
    if reply.host_keys:
        lines += ["", "host keys", *(f"  {line}" for key in reply.host_keys for line in host_key(key))]
    if reply.certificates:
        lines += ["", *host_certificates(reply.certificates)]
    return lines


# -- who can log in ------------------------------------------------------------------------------------------------


def logins(reports: Iterable[LoginReport], *, pictures: bool, width: int | None = None) -> list[str]:
    """The keys of every account, on a terminal of that width."""
    listed = list(reports)
    keys = [key for report in listed for key in report.keys]
    rows = [(key.fingerprint, key_type(key), person(key.person, key.person_id)) for key in keys]
    shown = iter(aligned(("FINGERPRINT", "TYPE", "WHO"), rows, width=width, giving=("WHO",), indent="  "))
    heading = next(shown)
    lines = [heading] if rows else []
    for report in listed:
        lines.append(report.user)
        if not any(not key.narrowed_out and not key.revoked for key in report.keys):
            lines.append("  nobody gets in: there is no key" + (" that may be used" if report.keys else ""))
        for key in report.keys:
            lines += _key(key, next(shown))
            if pictures:
                lines += [f"    {line}" for line in randomart(key.fingerprint, key.key_type, key.bits)]
        lines.append("")
    return lines


def _key(key: KeyReport, row: str) -> list[str]:
    lines = [row]
    if key.source != key.person:
        lines.append(f"    of {key.source}")
    if key.comment and key.comment not in key.person:
        lines.append(f"    comment: {key.comment}")
    if key.options:
        lines.append(f"    options: {key.options}")
    if key.authority:
        lines.append("    an authority: lets in with certificates that it has signed")
    if key.narrowed_out:
        lines.append("    NOT let in: only_fingerprints or key_types of this login leave it out")
    if key.revoked:
        lines.append(f"    NOT let in: {key.revoked}")
    return lines


# -- sources -------------------------------------------------------------------------------------------------------


def sources(reports: Iterable[SourceReport], *, width: int | None = None) -> list[str]:
    """The state of every source; those with problems begin with an exclamation mark."""
    listed = list(reports)
    headings = ("SOURCE", "KEYS", "CONFIRMED", "NEXT LOOK")
    rows = [(report.spec, str(report.accepted), _confirmed(report), _next_look(report)) for report in listed]
    shown = aligned(headings, rows, width=width, numbers=("KEYS",), giving=("SOURCE",), indent="  ")
    lines = shown[: 1 if rows else 0]
    for report, row in zip(listed, shown[1:], strict=True):
        lines.append(f"!{row[1:]}" if has_problem(report) else row)
        lines += [f"    {line}" for line in _source(report)]
    return lines


def _confirmed(report: SourceReport) -> str:
    if report.ahead:
        return f"in {time_span(report.ahead)}"
    return "never" if report.age is None else f"{time_span(report.age)} ago"


def _next_look(report: SourceReport) -> str:
    return "-" if report.next_look is None else f"in {time_span(report.next_look)}"


def has_problem(report: SourceReport) -> bool:
    """Whether the source has a problem that a person should look at."""
    return bool(report.failure) or report.stale or report.origin == "none" or not report.accepted


def _source(report: SourceReport) -> list[str]:
    lines = []
    if report.age is None:
        lines.append("nothing is known of it yet, nobody gets in by it")
    elif report.origin == "last-good":
        lines.append("this is the last good copy")
    if report.refused:
        lines.append(f"{number(report.refused, 'line')} refused")
    if report.pinned is not None:
        lines.append(f"account {report.pinned}, as configured")
    elif report.remembered is not None:
        lines.append(f"account {report.remembered}, the one seen first")
    if report.ahead:
        lines.append("the clock was wrong then or is now: nobody gets in by it until it answers again")
    elif report.stale:
        lines.append("too old: nobody gets in by it until it answers again (keys.max_stale)")
    if report.failure:
        lines.append(f"problem: {report.failure}")
    return lines


# -- the server's own keys -----------------------------------------------------------------------------------------


def host_key(key: HostKeyReport) -> list[str]:
    """A key of the server, and what is special about it on lines of their own, so that 80 columns are enough."""
    lines = [f"{key.fingerprint}  {short_name(key.key_type)}"]
    if key.spare:
        lines.append("  announced, not used: another one of its type comes first")
    elif key.next:
        lines.append("  announced, not in use yet")
    elif key.new:
        lines.append("  new since the start")
    if key.was_empty:
        lines.append("  its file was empty: clients that know another key are warned")
    return lines


def _day(when: float) -> str:
    """A Unix time that may be years away."""
    try:
        return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(when))
    except (ValueError, OverflowError, OSError):  # outside of the machine's calendar
        return "the end of time"


def host_certificates(reports: Iterable[HostCertificateReport]) -> list[str]:
    """The certificates of the server's keys; those that are not offered begin with an exclamation mark."""
    lines = ["host certificates"]
    for report in reports:
        lines.append(f"{'!' if report.problem else ' '} {report.path}")
        if report.key:
            names = ", ".join(report.principals) or "any host"
            until = "" if report.valid_before is None else f", until {_day(report.valid_before)}"
            lines += [
                f"    {report.key}  for {names}{until}",
                f"    signed by {report.authority}  {report.key_id!a}, serial number {report.serial}",
            ]
        if report.problem:
            lines.append(f"    not offered, the plain key is: {report.problem}")
    return lines


# -- revocation lists ----------------------------------------------------------------------------------------------

_LIST_KINDS = {"keys": "public keys", "krl": "KRL"}


def revoked_lists(reports: Iterable[RevokedListReport]) -> list[str]:
    """The state of every revocation list; those with problems begin with an exclamation mark."""
    lines = ["revoked"]
    for report in reports:
        known = "nothing is known of it yet"
        if report.kind in _LIST_KINDS:
            entries = "1 entry" if report.entries == 1 else f"{report.entries} entries"
            known = f"{entries} ({_LIST_KINDS[report.kind]})"
        lines += [f"{'!' if report.failure else ' '} {report.spec}", f"    {known}"]
        if report.failure:
            lines.append(f"    problem, so NOBODY GETS IN: {report.failure}")
    return lines


# -- verdicts ------------------------------------------------------------------------------------------------------


def verdicts(reports: Iterable[Verdict]) -> list[str]:
    """Whether a key would be accepted, account by account."""
    lines = []
    for report in reports:
        if not report.accepted:
            lines.append(f"  {report.user}: no, {report.reason}")
            continue
        source = (
            "" if report.identity is not None and report.identity.person == report.source else f" of {report.source}"
        )
        lines.append(f"  {report.user}: yes, as {who(report.identity)}{source}")
        if report.options:
            lines.append(f"    options: {report.options}")
    return lines

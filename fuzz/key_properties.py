"""Properties of every key file, options field and list of patterns, whatever is in it.

Each function takes raw bytes and raises AssertionError if a promise of `core.access.authorized_keys`,
`core.access.key_options` or `core.access.source_match` is broken. The unit tests call them with hypothesis's examples,
`fuzz.authorized_keys` with atheris's. This module needs neither.
"""

import base64
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import product

import msgspec

from pyssh_gateway.core.access import source_match
from pyssh_gateway.core.access.authorized_keys import (
    MAX_KEYS,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_REFUSALS,
    AuthorizedKey,
    ParsedKeys,
    parse,
)
from pyssh_gateway.core.access.key_options import MAX_OPTIONS, NO_OPTIONS, KeyOptions, KeyOptionsError, parse_options

SOURCE = "file:/keys"

MAX_REASON = 400
"""The most characters of a reason, which is one line of a log."""

_SWITCHES = {
    "pty": "pty",
    "port-forwarding": "port_forwarding",
    "agent-forwarding": "agent_forwarding",
    "X11-forwarding": "x11_forwarding",
    "user-rc": "user_rc",
    "touch-required": "touch_required",
}

_WEAKEST = {field: False for field in _SWITCHES.values() if field != "touch_required"}


def check_keys(text: bytes) -> None:
    """`parse` never raises, keeps its bounds, accepts only keys that are in the text, and reads each line by itself."""
    for allow_options, authorities in product((False, True), repeat=2):
        parsed = parse(text, SOURCE, allow_options, authorities=authorities)
        _check_counts(parsed)
        for key in parsed.accepted:
            assert allow_options or key.options == KeyOptions(cert_authority=authorities)
            assert key.options.cert_authority or not (authorities or key.options.principals)
            line = _line(key)
            if len(line) <= MAX_LINE_BYTES:
                again = parse(line, SOURCE, key.options != NO_OPTIONS, authorities=authorities)
                assert [_plain(one) for one in again.accepted] == [_plain(key)]
        lines = text.split(b"\n")
        if len(lines) <= min(MAX_LINES, MAX_KEYS):
            alone = [parse(line, SOURCE, allow_options, authorities=authorities) for line in lines]
            first = {(key.blob, key.options): key for one in reversed(alone) for key in one.accepted}
            assert set(parsed.accepted) == set(first.values())
            assert parsed.refused_count == sum(one.refused_count for one in alone)
            good = [line for line, one in zip(lines, alone, strict=True) if not one.refused_count]
            assert parse(b"\n".join(good), SOURCE, allow_options, authorities=authorities) == ParsedKeys(
                parsed.accepted, (), 0
            )


def check_options(text: bytes) -> None:
    """`parse_options` raises one error only; its result can be written out again; `restrict` can't be undone."""
    options = _understood(text)
    if options is None or text.count(b",") >= MAX_OPTIONS - len(_SWITCHES):  # the added ones have to fit
        return
    assert _understood(written(options)) == options
    restricted = _understood(text + b",restrict" if text else b"restrict")
    assert restricted == msgspec.structs.replace(options, **_WEAKEST)
    before = _understood(b"restrict," + text if text else b"restrict")
    assert before is not None
    assert all(getattr(options, field) or not getattr(before, field) for field in _WEAKEST)


def check_patterns(data: bytes) -> None:
    """`split` raises one error only; `matches` raises none, ignores the order, and heeds exclusions and bad patterns.

    `data` is the address, a space, and the list.
    """
    address, _, text = data.decode("utf-8", "replace").partition(" ")
    try:
        patterns = source_match.split(text)
    except source_match.PatternError as error:
        _check_reason(str(error))
        patterns = tuple(text.split(","))
        assert len(patterns) > source_match.MAX_PATTERNS or not source_match.matches(patterns, address)
        return
    answer = source_match.matches(patterns, address)
    assert answer == source_match.matches(tuple(reversed(patterns)), address)
    assert answer == source_match.matches((*patterns, *patterns), address)
    assert not source_match.matches((*patterns, "!*"), address)
    assert not source_match.matches((*patterns, "1.2.3.4/"), address)
    assert answer <= source_match.matches((*patterns, "*"), address) <= source_match.matches(("*",), address)
    for pattern in patterns:
        assert source_match.wildcard(pattern, address) == fnmatchcase(address, pattern)


def written(options: KeyOptions) -> bytes:
    """The options field that parses to `options`."""
    words = [b"cert-authority"] if options.cert_authority else []
    words += [f"no-{name}".encode() for name, field in _SWITCHES.items() if not getattr(options, field)]
    words += [b"verify-required"] if options.verify_required else []
    if options.command is not None:
        words.append(_with_value("command", options.command))
    words += [_with_value("environment", name + b"=" + value) for name, value in options.environment]
    words += [_with_value("from", ",".join(options.source).encode())] if options.source else []
    words += [_with_value("permitopen", permit.encode()) for permit in options.permit_open]
    words += [_with_value("permitlisten", permit.encode()) for permit in options.permit_listen]
    if options.expires is not None:
        expires = datetime.fromtimestamp(options.expires, UTC)
        words.append(_with_value("expiry-time", f"{expires:%Y%m%d%H%M%S}Z".encode()))
    words += [_with_value("principals", ",".join(options.principals).encode())] if options.principals else []
    return b",".join(words)


def _with_value(name: str, value: bytes) -> bytes:
    return name.encode() + b'="' + value.replace(b'"', b'\\"') + b'"'


def _understood(text: bytes) -> KeyOptions | None:
    try:
        return parse_options(text)
    except KeyOptionsError as error:
        _check_reason(str(error))
        return None


def _check_counts(parsed: ParsedKeys) -> None:
    assert len(parsed.refused) == min(parsed.refused_count, MAX_REFUSALS)
    assert len(parsed.accepted) <= MAX_KEYS
    assert len({(key.blob, key.options) for key in parsed.accepted}) == len(parsed.accepted)
    for reason in parsed.refused:
        _check_reason(reason)


def _check_reason(reason: str) -> None:
    assert reason
    assert reason.isprintable()
    assert reason.isascii()
    assert len(reason) <= MAX_REASON


def _line(key: AuthorizedKey) -> bytes:
    """The line that parses to `key`."""
    comment = key.comment.encode("utf-8", "surrogateescape")
    return b" ".join((written(key.options), key.key_type.encode(), base64.b64encode(key.blob), comment))


def _plain(key: AuthorizedKey) -> AuthorizedKey:
    """`key` without blanks at the end of its comment: only a comment that was cut can end with one, a line can't."""
    return msgspec.structs.replace(key, comment=key.comment.rstrip(" \t\r"))

"""Which addresses a key may be used from: the patterns of `from=` (sshd(8)), matched as sshd matches them.

Addresses only. Names are never looked up (sshd's default, `UseDNS no`), because the owner of an address chooses its
name; a pattern that is a name matches nobody. This module does not know whose address it is given.
"""

import ipaddress
import re
from typing import NamedTuple

MAX_PATTERNS = 256
"""Patterns of one list. Each is read again at every login, which takes microseconds; an office has a few networks."""

MAX_PATTERN = 255
"""Characters of one pattern: the longest host name (RFC 1035 section 2.3.4); no address is as long."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_CHARACTERS = re.compile(r"[A-Za-z0-9._:*?/-]+", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+", re.ASCII)
_PREFIX = re.compile(r"[0-9]{1,3}", re.ASCII)
_NOT_IN_ADDRESSES = re.compile(r"[^0-9A-Fa-f.:*?]", re.ASCII)
_HEX_LETTER = re.compile(r"[A-Fa-f]", re.ASCII)


class _Network(NamedTuple):
    """A network of one IP version: addresses that, without their last `free` bits, are equal to `start`."""

    version: int
    free: int
    start: int

    def has(self, address: _Address) -> bool:
        """Whether `address` is one of them."""
        return address.version == self.version and int(address) >> self.free == self.start


class PatternError(ValueError):
    """Text that is not a list of patterns. The text of the error says why, for the person who wrote it."""


def split(text: str) -> tuple[str, ...]:
    """The patterns of the comma-separated list `text`.

    Raises `PatternError` for what sshd refuses (nothing between two commas, bits set beyond a network's mask), and for
    what sshd takes but never matches: a malformed address or network, a space, and a name after a `!`. An exclusion
    written like that would silently exclude nobody.
    """
    patterns = tuple(text.split(","))
    if len(patterns) > MAX_PATTERNS:
        raise PatternError(f"{len(patterns)} patterns are too many: at most {MAX_PATTERNS}")
    for pattern in patterns:
        _compile(pattern)
    return patterns


def matches(patterns: tuple[str, ...], address: str) -> bool:
    """Whether `address` matches one of `patterns` and no negated one; without patterns, every address matches.

    Follows addr_match_list (OpenSSH's addrmatch.c): an address or network is compared as a number, anything else as
    text in which `*` stands for any characters and `?` for one. An IPv4-mapped IPv6 address counts as the IPv4 address
    and a zone (`%eth0`) does not count. If `address` is not an address, or a pattern is malformed, nothing matches.
    """
    if not patterns:
        return True
    peer = _address(address.partition("%")[0])
    if peer is None:
        return False
    try:
        compiled = [(pattern.startswith("!"), _compile(pattern)) for pattern in patterns]
    except PatternError:
        return False
    matched = {negated for negated, wanted in compiled if _is_in(_plain(peer), wanted)}
    return matched == {False}  # something matched, and nothing that is negated


def wildcard(pattern: str, text: str) -> bool:
    """Whether `text` is what `pattern` describes: `*` any characters, `?` one (match_pattern, OpenSSH's match.c).

    Takes time in proportion to the product of both lengths, never more.
    """
    at = 0
    star = -1  # where the last `*` is, and where in `text` it was taken to end
    resumed = 0
    position = 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resumed = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[position]):
            at += 1
            position += 1
        elif star >= 0:  # let the last `*` stand for one character more; earlier ones need not be tried again
            resumed += 1
            at, position = star + 1, resumed
        else:
            return False
    return not pattern[at:].strip("*")


def _compile(pattern: str) -> _Network | str:
    """What `pattern` is compared with, without its `!`: a network, or text with wildcards. Raises `PatternError`."""
    body = pattern.removeprefix("!")
    if not body:
        raise PatternError("there is a comma too many, or nothing after a !")
    shown = f'"{ascii(body)[1:-1][:60]}"'
    if len(body) > MAX_PATTERN or not _CHARACTERS.fullmatch(body):
        raise PatternError(f"{shown} is not an address, a network or a pattern of addresses")
    written, slash, length = body.partition("/")
    address = _address(written) if _ADDRESS.fullmatch(written) else None
    if slash:
        return _network(address, length, shown)
    if address is not None:
        address = _plain(address)
        return _Network(address.version, 0, int(address))
    has_wildcard = "*" in body or "?" in body
    if _is_name(body, has_wildcard):
        if pattern != body:
            raise PatternError(f"{shown} is a name, and names are not looked up: exclude addresses instead")
    elif not has_wildcard:
        raise PatternError(f"{shown} is not an address")
    return body.lower()


def _network(address: _Address | None, length: str, shown: str) -> _Network:
    if address is None or not _PREFIX.fullmatch(length) or int(length) > address.max_prefixlen:
        raise PatternError(f"{shown} is not a network")
    free = address.max_prefixlen - int(length)
    if int(address) & ((1 << free) - 1):
        raise PatternError(f"{shown} has bits set beyond its mask")
    address = _plain(address)  # a prefix shorter than ::ffff:0:0/96 would have bits set beyond its mask
    return _Network(address.version, free, int(address) >> free)


def _is_name(body: str, has_wildcard: bool) -> bool:
    if _NOT_IN_ADDRESSES.search(body):
        return True
    # No address text has letters and dots together: mapped addresses, which would, count as IPv4.
    return _HEX_LETTER.search(body) is not None and ("." in body or not (has_wildcard or ":" in body))


def _is_in(peer: _Address, wanted: _Network | str) -> bool:
    return wildcard(wanted, str(peer)) if isinstance(wanted, str) else wanted.has(peer)


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _plain(address: _Address) -> _Address:
    """The IPv4 address behind ::ffff:0:0/96, in which IPv6 sockets show their IPv4 clients (RFC 4291 2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped

"""Which hosts are reached without the HTTP proxy: NO_PROXY as curl reads it (its manual, "ENVIRONMENT"; lib/noproxy.c).

Pure: no name is resolved, so a name never matches an address, nor an address a name.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


def bypasses_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Whether `host`, a name or an address without brackets, is one of those in `no_proxy`.

    Entries are divided by commas or blanks: `*` is every host; a name is that host and all its subdomains, with or
    without a dot in front; an address or a network (`10.0.0.0/8`) matches addresses. An entry with a port is for that
    port only, as in wget, Go and Python.
    """
    name = host.lower().removesuffix(".")
    address = _address(name)
    return any(_matches(entry, name, address, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _matches(entry: str, name: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    where, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    if address is None:
        domain = where.removesuffix(".").removeprefix(".")
        return bool(domain) and (name == domain or name.endswith(f".{domain}"))
    try:
        return address in ip_network(where, strict=False)
    except ValueError:  # a name, or nothing at all
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """The host of an entry, without brackets, and its port, if it has one."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(\d{1,5}))?", entry, re.ASCII)
    if bracketed is not None:
        host, bits, port = bracketed.groups(default="")
        return host + bits, int(port) if port else None
    host, colon, port = entry.rpartition(":")
    if colon and ":" not in host and re.fullmatch(r"\d{1,5}", port, re.ASCII):
        return host, int(port)
    return entry, None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None

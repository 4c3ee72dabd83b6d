"""Fuzz the reader of PROXY headers."""

import atheris

with atheris.instrument_imports(include=["pyssh_gateway.core"]):
    from fuzz import proxy_properties

from fuzz.running import run
from tests.support.proxy_headers import (
    ALPN,
    AWS,
    CLIENT,
    LOCAL,
    NOOP,
    UNIQUE_ID,
    UNIX,
    binary,
    frame,
    line,
    tlv,
)

_BANNER = b"SSH-2.0-OpenSSH_9.9\r\n"
_V6 = (("2001:db8::9", 50350), ("::ffff:198.51.100.1", 22))

_SEEDS = (
    b"\0" + line() + _BANNER,
    b"\2\1\x0e" + line(*_V6) + _BANNER,
    b"\0PROXY UNKNOWN\r\n" + _BANNER,
    b"\1\x10PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n" + _BANNER,
    b"\0" + binary() + _BANNER,
    b"\3\x0f\1\4" + binary(*_V6, checksum=True, tlvs=tlv(UNIQUE_ID, b"1F90:2A") + tlv(NOOP, bytes(5))) + _BANNER,
    b"\0" + binary(CLIENT, tlvs=tlv(ALPN, b"ssh") + tlv(AWS, b"\1vpce-0123"), checksum=True) + _BANNER,
    b"\0" + frame(command=LOCAL) + _BANNER,
    b"\0" + frame(b"anything", command=LOCAL, family=0xFF) + _BANNER,
    b"\0" + frame(b"anything") + _BANNER,
    b"\0" + frame(bytes(216) + tlv(UNIQUE_ID, b"x"), family=UNIX) + _BANNER,
    b"\0" + _BANNER,
)

_WORDS = (
    *("PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "\\x0d\\x0a", "203.0.113.9 ", "::ffff:", "65535 ", "65536", "SSH-2.0-"),
    *("\\x0d\\x0a\\x0d\\x0a\\x00\\x0d\\x0aQUIT\\x0a", "\\x20\\x00", "\\x21\\x11", "\\x21\\x21", "\\x21\\x31"),
    *("\\x03\\x00\\x04", "\\x05\\x00\\x80", "\\x04\\x00\\x00", "\\x21\\x11\\x00\\x0c", "\\x21\\x21\\x00\\x24"),
)


if __name__ == "__main__":
    run(proxy_properties.check_header, _SEEDS, _WORDS)

"""The first bytes: scanners, browsers, broken and malicious peers that never reach authentication."""

import pytest

from tests.support.server import Server
from tests.wire.plain import PlainPeer, kexinit, packet, text

NOT_SSH = {
    "http": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\n",
    "nuls": bytes(1000) + b"\n",
    "empty lines": b"\r\n" * 100,
    "version 1.5": b"SSH-1.5-old\r\n",
    "not ascii": b"SSH-2.0-\xff\xfe\r\n",
    "line of 5000 bytes": b"SSH-2.0-" + b"x" * 5000 + b"\r\n",
    "line without an end": b"x" * 100_000,
}


@pytest.mark.parametrize("greeting", NOT_SSH)
def test_what_is_not_ssh_is_sent_away(server: Server, greeting: str) -> None:
    """A peer of another protocol gets our version and is closed at once, and not only after the login grace."""
    mark = server.mark()
    with PlainPeer(server.port) as peer:
        peer.send(NOT_SSH[greeting])
        assert peer.is_closed()
    assert server.wait_for("connection.closed", since=mark)["user"] == ""
    assert not server.find("internal.error", mark)


INIT = b"\x1e"
VIOLATIONS = {
    "strict: ignore before KEXINIT": packet(b"\2" + text(b"x")) + packet(kexinit()),
    "strict: ignore after KEXINIT": packet(kexinit()) + packet(b"\2" + text(b"")),
    "strict: debug after KEXINIT": packet(kexinit()) + packet(b"\4\0" + text(b"") + text(b"")),
    "strict: unknown after KEXINIT": packet(kexinit()) + packet(b"\xc0"),
    "length 0": bytes(64),
    "length 1": b"\0\0\0\1\0" + bytes(30),
    "length of 4 GiB": b"\xff\xff\xff\xff" + bytes(100),
    "padding longer than the packet": b"\0\0\0\x0c\xff" + bytes(100),
    "padding 0": b"\0\0\0\x0c\0\2" + bytes(100),
    "nothing but padding": b"\0\0\0\x0c\x0b" + bytes(11),
    "KEXINIT cut off": packet(kexinit()[:30]),
    "KEXINIT with more": packet(kexinit() + b"more"),
    "KEXINIT twice": packet(kexinit()) * 2,
    "cipher not ascii": packet(kexinit(cipher=b"\xff\xfe")),
    "kex not ascii": packet(kexinit(kex=b"\xff\xfe")),
    "host key not ascii": packet(kexinit(host_key=b"\xff\xfe")),
    "no kex": packet(kexinit(kex=b"")),
    "no cipher": packet(kexinit(cipher=b"")),
    "old kex": packet(kexinit(kex=b"diffie-hellman-group1-sha1,diffie-hellman-group14-sha1")),
    "CBC": packet(kexinit(cipher=b"aes128-cbc,3des-cbc")),
    "SHA-1 host key": packet(kexinit(host_key=b"ssh-rsa,ssh-dss")),
    "strict: NEWKEYS first": packet(b"\x15") + packet(kexinit()),
    "authentication before the keys": packet(b"\x32" + text(b"root") + text(b"ssh-connection") + text(b"none")),
    "strict: service first": packet(b"\5" + text(b"ssh-userauth")) + packet(kexinit()),
    "channel before the keys": packet(b"\x5a" + text(b"session") + bytes(12)),
    "x25519: zero": packet(kexinit()) + packet(INIT + text(bytes(32))),
    "x25519: short": packet(kexinit()) + packet(INIT + text(bytes(3))),
    "x25519: more": packet(kexinit()) + packet(INIT + text(b"\x09" + bytes(31)) + b"xx"),
    "x25519: nothing": packet(kexinit()) + packet(INIT),
    "nistp256: zero": packet(kexinit(kex=b"ecdh-sha2-nistp256")) + packet(INIT + text(bytes(65))),
    "nistp521: off the curve": packet(kexinit(kex=b"ecdh-sha2-nistp521")) + packet(INIT + text(b"\4" + bytes(132))),
    "mlkem: short": packet(kexinit(kex=b"mlkem768x25519-sha256")) + packet(INIT + text(bytes(32))),
    "mlkem: out of range": packet(kexinit(kex=b"mlkem768x25519-sha256")) + packet(INIT + text(b"\xff" * 1216)),
    "mlkem: zero": packet(kexinit(kex=b"mlkem768x25519-sha256")) + packet(INIT + text(bytes(1216))),
    "KEX reply from the client": packet(kexinit()) + packet(b"\x1f" + text(b"")),
    "strict: EXT_INFO first": packet(b"\7" + bytes(4)) + packet(kexinit()),
    "debug not UTF-8": packet(b"\4\1" + text(b"\xff") + text(b"")),
    "disconnect": packet(b"\1" + bytes(3) + b"\2" + text(b"bye") + text(b"")),
    "disconnect not UTF-8": packet(b"\1" + bytes(3) + b"\2" + text(b"\xff\xfe") + text(b"")),
    "disconnect with a strange code": packet(b"\1\xff\xff\xff\xff" + text(b"bye") + text(b"")),
    "disconnect cut off": packet(b"\1\0"),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_violations_before_the_keys_end_the_connection(server: Server, violation: str) -> None:
    """Every violation before the keys closes the connection, and is logged as the peer's error, not as ours."""
    mark = server.mark()
    with PlainPeer(server.port) as peer:
        peer.greet()
        peer.send(VIOLATIONS[violation])
        assert peer.is_closed()
    assert server.wait_for("connection.closed", since=mark)["user"] == ""
    assert not server.find("internal.error", mark), server.find("internal.error", mark)[0]["error"]

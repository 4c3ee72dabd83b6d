"""Which ciphers are offered to which clients."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.steering import (
    MAX_REMEMBERED,
    MAX_STATE_BYTES,
    WAIT_SECONDS,
    Ciphers,
    CipherSteering,
    ciphers_of,
    decode,
    round_trip,
)
from tests.wire.plain import kexinit, text

GCM = Ciphers(frozenset({"aes128-gcm@openssh.com"}), frozenset({"aes256-gcm@openssh.com"}))
CTR = Ciphers(frozenset({"aes256-ctr"}), frozenset({"aes256-ctr"}))
ONE_WAY = Ciphers(GCM.to_server, CTR.to_client)

OPENSSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"


@pytest.mark.parametrize(
    ("has_aes", "identification", "only_gcm"),
    [
        (True, OPENSSH, True),
        (False, OPENSSH, False),
        (True, b"SSH-2.0-PuTTY_Release_0.78", False),
        (True, b"SSH-2.0-AsyncSSH_2.24.1", False),
        (True, b"SSH-2.0-dropbear_OpenSSH_", False),
        (True, b"", False),
    ],
)
def test_openssh_gets_gcm_where_it_is_fast(has_aes: bool, identification: bytes, only_gcm: bool) -> None:
    """Only OpenSSH, which surely has AES-GCM, is steered to it, and only if the processor makes it fast."""
    assert CipherSteering(has_aes).offer_only_gcm(identification, "192.0.2.1") is only_gcm


def test_who_could_not_do_it_gets_everything_the_next_time() -> None:
    """A client configured without AES-GCM gets in with its second try, from its whole /64; others are not affected."""
    steering = CipherSteering(has_aes=True)
    steering.failed("2001:db8::1")
    assert not steering.offer_only_gcm(OPENSSH, "2001:db8::2")
    assert steering.offer_only_gcm(OPENSSH, "192.0.2.1")


def test_what_is_remembered_is_bounded() -> None:
    """Strangers that fail on purpose fill a list of fixed length, whose oldest entry is forgotten."""
    steering = CipherSteering(has_aes=True)
    peers = [f"10.0.{number // 256}.{number % 256}" for number in range(MAX_REMEMBERED + 1)]
    for peer in peers:
        steering.failed(peer)
        steering.failed(peer)
    assert steering.offer_only_gcm(OPENSSH, peers[0])
    assert not steering.offer_only_gcm(OPENSSH, peers[1])
    assert not steering.offer_only_gcm(OPENSSH, peers[-1])


@pytest.mark.parametrize(
    ("ciphers", "only_gcm"), [(GCM, True), (CTR, False), (ONE_WAY, False), (Ciphers(frozenset(), frozenset()), False)]
)
def test_a_client_whose_ciphers_are_known_is_not_guessed_at(ciphers: Ciphers, only_gcm: bool) -> None:
    """If a client's ciphers are known, they decide at the first try, whoever failed from that address before."""
    steering = CipherSteering(has_aes=True)
    for _ in range(2):
        assert steering.offer_only_gcm(OPENSSH, "192.0.2.1", ciphers) is only_gcm
        steering.failed("192.0.2.1")
    assert not CipherSteering(has_aes=False).offer_only_gcm(OPENSSH, "192.0.2.1", ciphers)


@pytest.mark.parametrize(
    ("has_aes", "identification", "seconds", "wait"),
    [
        (True, OPENSSH, 0.0001, WAIT_SECONDS),
        (True, OPENSSH, 0.001, 0),
        (True, OPENSSH, 0.1, 0),
        (True, OPENSSH, None, 0),
        (True, b"SSH-2.0-PuTTY_Release_0.78", 0.0001, 0),
        (False, OPENSSH, 0.0001, 0),
    ],
)
def test_waiting_costs_a_distant_client_nothing(
    has_aes: bool, identification: bytes, seconds: float | None, wait: float
) -> None:
    """Only a client that the kernel knows to be near is waited for, and only if its ciphers matter."""
    assert CipherSteering(has_aes).wait(identification, seconds) == wait


def tcp_info(rtt: int, min_rtt: int, size: int = 232) -> bytes:
    """A `struct tcp_info` (linux/tcp.h) with these two values, in microseconds."""
    info = bytearray(232)
    struct.pack_into("=I", info, 68, rtt)
    struct.pack_into("=I", info, 148, min_rtt)
    return bytes(info[:size])


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        (tcp_info(90, 25), 0.000025),
        (tcp_info(20, 0xFFFFFFFF), 0.00002),
        (tcp_info(300, 25, size=104), 0.0003),
        (tcp_info(0, 0), None),
        (b"", None),
    ],
)
def test_the_round_trip_is_the_kernels(info: bytes, seconds: float | None) -> None:
    """The shortest round trip counts; if the kernel has none, or is too old, the client counts as distant."""
    assert round_trip(info) == seconds


def test_a_source_that_logged_in_is_kept_for_the_next_start() -> None:
    """A source that failed and then logged in is stored, so that it fails only once; strangers that fail are not."""
    steering = CipherSteering(has_aes=True)
    steering.failed("192.0.2.1")
    steering.failed("192.0.2.2")
    assert steering.logged_in(OPENSSH, "192.0.2.1", CTR)
    assert not steering.logged_in(OPENSSH, "192.0.2.1", CTR)
    assert not steering.logged_in(OPENSSH, "192.0.2.3", GCM)
    assert not steering.logged_in(OPENSSH, "192.0.2.3", None)
    assert steering.logged_in(OPENSSH, "2001:db8::1", CTR)
    assert steering.encode() == b"192.0.2.1\n2001:db8::/64\n"
    later = CipherSteering(has_aes=True, kept=steering.encode())
    offered = [later.offer_only_gcm(OPENSSH, peer) for peer in ("192.0.2.1", "2001:db8::7", "192.0.2.2")]
    assert offered == [False, False, True]


def test_garbage_does_not_lose_what_is_good() -> None:
    """In a damaged or edited file, only the lines that are no sources are lost."""
    kept = b"192.0.2.1\n\xff\xfe\n\n2001:db8::1\n2001:db8::/64\n10.0.0.0/8\n192.0.2.9"
    assert decode(kept) == ["192.0.2.1", "2001:db8::/64", "192.0.2.9"]


@given(st.binary())
def test_any_file_can_be_read(kept: bytes) -> None:
    """Any file on the disk can be read, so that it cannot stop a start."""
    assert decode(CipherSteering(has_aes=True, kept=kept).encode()) == list(dict.fromkeys(decode(kept)))


def test_what_is_kept_is_bounded() -> None:
    """The thousand sources with the latest logins are stored, in a file that can be read back in full."""
    steering = CipherSteering(has_aes=True)
    for number in range(MAX_REMEMBERED + 5):
        assert steering.logged_in(OPENSSH, f"2001:db8:ffff:{number:x}:ffff::1", CTR)
    assert len(steering.encode()) < MAX_STATE_BYTES
    kept = decode(steering.encode())
    assert (len(kept), kept[0]) == (MAX_REMEMBERED, "2001:db8:ffff:5::/64")


def test_ciphers_are_read_from_a_kexinit() -> None:
    """Each direction has its own list of ciphers, and a message that is cut off gives none."""
    whole = kexinit(cipher=b"aes256-ctr,chacha20-poly1305@openssh.com")[1:]
    both = frozenset({"aes256-ctr", "chacha20-poly1305@openssh.com"})
    assert ciphers_of(whole) == Ciphers(both, both)
    lists = (b"kex", b"key", b"aes128-ctr", b"aes128-gcm@openssh.com")
    assert ciphers_of(bytes(16) + b"".join(map(text, lists))) == Ciphers(
        frozenset({"aes128-ctr"}), frozenset({"aes128-gcm@openssh.com"})
    )
    assert ciphers_of(whole[:40]) is None
    assert ciphers_of(b"") is None


@given(st.binary(max_size=200))
def test_any_kexinit_can_be_looked_at(payload: bytes) -> None:
    """Any bytes of an unknown client can be parsed without an error."""
    ciphers_of(payload)

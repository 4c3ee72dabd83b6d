"""What revokes a key or a certificate, and how a refusal says so."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.access import certificates
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.certificates import Certificate
from pyssh_gateway.core.access.denials import Denial, Deny
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import Accept, still_holds
from pyssh_gateway.core.access.revocations import (
    ANY_AUTHORITY,
    MAX_BITMAP_BITS,
    Issued,
    Revocations,
    RevokedList,
    merged,
    revoked_by,
    short_id,
    unusable,
)
from tests.support.attempts import ED, ask, show
from tests.support.certificates import made_up
from tests.support.key_lines import string
from tests.support.snapshots import account, line

KEY = string(b"ssh-ed25519") + string(b"\x05" * 32)
AUTHORITY = string(b"ssh-ed25519") + string(b"\x06" * 32)
SPEC = "file:/etc/ssh/revoked_keys"
CERTIFICATE = certificates.parse(made_up())  # its serial number is 7, its key id "example"


def why(revocations: Revocations, *, certificate: Certificate | None = CERTIFICATE) -> str:
    """What is revoked of the certificate, or of its key if `certificate` is None."""
    return revoked_by([RevokedList(SPEC, revocations)], KEY, certificate).removesuffix(f" is revoked by {SPEC}")


def test_a_key_is_revoked_by_itself_and_by_its_hashes() -> None:
    """Each of the three ways to name a key revokes it, plain or in a certificate."""
    sha1, sha256 = hashlib.sha1(KEY, usedforsecurity=False).digest(), hashlib.sha256(KEY).digest()
    lists = (
        Revocations("keys", keys=frozenset({KEY})),
        Revocations("krl", sha1=frozenset({sha1})),
        Revocations("krl", sha256=frozenset({sha256})),
    )
    for revocations in lists:
        assert why(revocations, certificate=None) == "the key"
        assert why(revocations) == "the key in the certificate"
    others = Revocations("krl", frozenset({AUTHORITY + b"1"}), frozenset({sha1[::-1]}), frozenset({sha256[::-1]}))
    assert why(others) == ""
    assert why(others, certificate=None) == ""


def test_a_certificate_is_revoked_by_what_its_authority_has_said_of_it() -> None:
    """Serial numbers and key ids count for certificates of the authority that they are listed for, or of any."""
    by_id, by_serial = Issued(key_ids=frozenset({"example"})), Issued(ranges=((7, 7),))
    for authority in (AUTHORITY, ANY_AUTHORITY):
        assert why(Revocations("krl", certificates={authority: by_serial})) == "the certificate's serial number 7"
        assert why(Revocations("krl", certificates={authority: by_id})) == "the certificate's key id 'example'"
        assert why(Revocations("krl", certificates={authority: Issued()})) == ""
    assert why(Revocations("krl", certificates={KEY: by_serial})) == ""
    assert why(Revocations("krl", certificates={ANY_AUTHORITY: by_serial}), certificate=None) == ""


def test_the_authority_itself_is_revoked_with_all_that_it_has_signed() -> None:
    """A stolen authority's key revokes all its certificates, while plain keys stay valid."""
    revocations = Revocations("keys", keys=frozenset({AUTHORITY}))
    assert why(revocations) == "the authority that signed the certificate"
    assert why(revocations, certificate=None) == ""


def test_serial_number_nought_is_none() -> None:
    """No range revokes serial number 0, which means that a certificate has none, as in OpenSSH."""
    assert not Issued(ranges=((1, 2**64 - 1),)).has_serial(0)
    assert Issued(ranges=((1, 2**64 - 1),)).has_serial(2**64 - 1)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=6),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2**12 - 1)), max_size=4),
)
def test_serial_numbers_are_found_where_they_were_put(
    spans: list[tuple[int, int]], bitmaps: list[tuple[int, int]]
) -> None:
    """With any overlap of ranges and bitmaps, exactly their numbers are revoked."""
    ranges = [(low, low + more) for low, more in spans]
    issued = Issued(merged(ranges), tuple(sorted(bitmaps)))
    wanted = {number for low, high in ranges for number in range(low, high + 1)}
    wanted |= {offset + bit for offset, bits in bitmaps for bit in range(12) if bits >> bit & 1}
    assert {number for number in range(90) if issued.has_serial(number)} == wanted - {0}


def test_a_bitmap_reaches_as_far_as_it_may() -> None:
    """The last bit of the longest bitmap counts."""
    issued = Issued(bitmaps=((5, 1 << MAX_BITMAP_BITS - 1),))
    assert issued.has_serial(5 + MAX_BITMAP_BITS - 1)
    assert not issued.has_serial(5 + MAX_BITMAP_BITS)
    assert issued.entries == 1


def test_ranges_that_touch_become_one() -> None:
    """Ranges are sorted and do not overlap, as the binary search needs."""
    assert merged([(9, 9), (1, 3), (4, 5), (2, 8), (20, 30)]) == ((1, 9), (20, 30))


def test_a_long_key_id_is_revoked_too_and_remembered_shortly() -> None:
    """A key id of 30 KiB does not fill the memory, as its short form still revokes the certificate."""
    long = "x" * 30_000
    assert len(short_id(long)) < 100
    assert short_id(short_id(long)) == short_id(long) != short_id(long + "x")
    assert short_id("example\0") == "example"


def test_lists_that_are_not_known_let_nobody_in_and_say_what_they_said() -> None:
    """While a list can't be read nobody gets in, and its last content still counts for connected users."""
    broken = RevokedList(SPEC, Revocations("keys", keys=frozenset({KEY})), "cannot read it")
    unknown = RevokedList("file:/other", None, "it has not been read yet")
    assert unusable([broken, unknown]) == f"{SPEC}: cannot read it"
    assert unusable([RevokedList(SPEC, Revocations("keys"))]) == ""
    assert revoked_by([unknown, broken], KEY, None) == f"the key is revoked by {SPEC}"


def test_entries_are_counted_for_people() -> None:
    """Each key, hash, range, bit and id counts as one entry."""
    issued = Issued(((1, 5), (8, 8)), ((10, 0b101),), frozenset({"a"}))
    assert Revocations("krl", frozenset({b"k"}), frozenset({b"h"}), frozenset({b"g", b"i"}), {b"": issued}).entries == 9


# -- the policy ----------------------------------------------------------------------------------------------------


def with_lists(*lists: RevokedList) -> KeySnapshot:
    """A snapshot in which ED may log in, unless these lists prevent it."""
    return KeySnapshot({"amos": account(line(ED))}, revoked=lists)


def test_a_revoked_key_is_denied_with_a_code_of_its_own_for_every_account() -> None:
    """A revoked key has its own code in log and figures, and the same answer whether the account exists."""
    snapshot = with_lists(RevokedList(SPEC, Revocations("keys", keys=frozenset({ED}))))
    expected = Deny(Denial.REVOKED, f"the key is revoked by {SPEC}")
    assert ask(ED, snapshot) == expected
    assert ask(ED, snapshot, user=b"nobody") == expected
    assert isinstance(ask(ED, with_lists()), Accept)


def test_nobody_gets_in_while_a_list_is_not_known() -> None:
    """A list that can't be read lets nobody in, as with sshd."""
    snapshot = with_lists(RevokedList(SPEC, Revocations("keys"), "cannot read it"))
    denied = ask(ED, snapshot)
    assert isinstance(denied, Deny)
    assert denied.code == Denial.REVOKED_LIST
    assert denied.reason == f"nobody gets in without the list of what is revoked: {SPEC}: cannot read it"
    assert denied.final


def test_who_is_on_is_ended_by_a_list_and_not_by_its_absence() -> None:
    """A list that can't be read ends no connection, but a key in its known content does."""
    accepted = ask(ED, with_lists())
    assert isinstance(accepted, Accept)
    assert still_holds("amos", accepted, with_lists(RevokedList(SPEC, None, "cannot read it")))
    revoked = Revocations("keys", keys=frozenset({ED}))
    assert not still_holds("amos", accepted, with_lists(RevokedList(SPEC, revoked)))
    assert not still_holds("amos", accepted, with_lists(RevokedList(SPEC, revoked, "cannot read it")))


def test_a_certificate_is_revoked_before_its_authority_is_looked_for() -> None:
    """A certificate with a revoked serial number is refused even if its authority is trusted."""
    blob = made_up()
    trusted = line(AUTHORITY, KeyOptions(cert_authority=True))
    revoked = Revocations("krl", certificates={ANY_AUTHORITY: Issued(ranges=((7, 7),))})
    snapshot = KeySnapshot({"amos": account(trusted)}, revoked=(RevokedList(SPEC, revoked),))
    denied = show(blob, snapshot)
    assert denied == Deny(Denial.REVOKED, f"the certificate's serial number 7 is revoked by {SPEC}")

"""Lists of revoked keys: those made by ssh-keygen are read, and faulty ones made by hand are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.revocation_properties import check_list
from pyssh_gateway.core.access import certificates as certificate_parser
from pyssh_gateway.core.access import revoked_list
from pyssh_gateway.core.access.revocations import Issued, Revocations, RevokedList, revoked_by
from pyssh_gateway.core.access.revoked_list import RevokedListError, parse
from tests.support import krl
from tests.support.certificates import Authority, blob_of, keygen, made_up, make_key
from tests.support.key_lines import ed25519, line, mpint, rsa, string
from tests.support.krl import certificates, number, section

KEY = string(b"ssh-ed25519") + string(b"\x05" * 32)


def refusal(text: bytes) -> str:
    """The reason for which a list can't be used."""
    with pytest.raises(RevokedListError) as raised:
        parse(text)
    return str(raised.value)


# -- lists made by ssh-keygen --------------------------------------------------------------------------------------


class Fleet:
    """Two authorities, five certificates of the first (serial numbers 1 to 5), one of the second, and plain keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.first, self.second = Authority(directory, "first"), Authority(directory, "second")
        self.user, self.other = (make_key(directory, name).with_suffix(".pub") for name in ("user", "other"))
        certified = [self.first.certify(self.user, "-z", str(serial), "-I", f"id {serial}") for serial in range(1, 6)]
        self.certificates = [*certified, self.second.certify(self.user, "-z", "3", "-I", "id 9")]
        self.files = [*self.certificates, self.user, self.other, self.first.public]

    def specified(self, *lines: str) -> Path:
        """A file of specifications for ssh-keygen -k."""
        path = self.directory / "specification"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The keys of this module."""
    return Fleet(tmp_path_factory.mktemp("fleet"))


def ours(path: Path, key: Path) -> bool:
    """Whether our code finds the key or certificate in a file revoked."""
    blob, lists = blob_of(key), [RevokedList("a list", parse(path.read_bytes()))]
    if certificate_parser.type_of(blob) not in certificate_parser.CERTIFICATE_TYPES:
        return bool(revoked_by(lists, blob, None))
    certificate = certificate_parser.parse(blob)
    return bool(revoked_by(lists, certificate.public_blob, certificate))


@pytest.mark.parametrize(
    ("lines", "revoked"),
    [
        (("serial: 2", "serial: 4-9"), 3),
        (tuple(f"serial: {serial}" for serial in (1, 3, 5, 70, 73, 74, 900)), 3),  # a bitmap
        (("id: id 1", "id: id 9"), 1),
    ],
)
def test_certificates_of_one_authority(fleet: Fleet, lines: tuple[str, ...], revoked: int) -> None:
    """Lists, ranges and bitmaps of serial numbers, and key ids, revoke the same as in ssh-keygen -Q."""
    path = krl.make(fleet.directory / "krl", fleet.specified(*lines), authority=fleet.first.public)
    verdicts = [ours(path, key) for key in fleet.files]
    assert verdicts == [krl.is_revoked(path, key) for key in fleet.files]
    assert sum(verdicts) == revoked


def test_certificates_of_any_authority(fleet: Fleet) -> None:
    """Key ids and serial numbers without an authority count for all authorities."""
    path = krl.make(fleet.directory / "krl", fleet.specified("id: id 9", "serial: 3"), authority=Path("none"))
    verdicts = [ours(path, key) for key in fleet.files]
    assert verdicts == [krl.is_revoked(path, key) for key in fleet.files]
    assert sum(verdicts) == 2


def test_keys_and_hashes(fleet: Fleet) -> None:
    """Keys, SHA1 and SHA256 hashes, and the key of an authority, revoke the same as in ssh-keygen -Q."""
    for kind in ("key", "sha1", "sha256"):
        for public in (fleet.user, fleet.other, fleet.first.public):
            path = krl.make(fleet.directory / "krl", fleet.specified(f"{kind}: {public.read_text()}"))
            verdicts = [ours(path, key) for key in fleet.files]
            assert verdicts == [krl.is_revoked(path, key) for key in fleet.files], (kind, public)
            assert any(verdicts)


def test_a_list_that_is_updated_has_a_version(fleet: Fleet) -> None:
    """The version is the one that the author gave, and an update with -u keeps the earlier entries."""
    path = krl.make(fleet.directory / "krl", fleet.user, version=41)
    keygen("-k", "-u", "-f", path, "-z", "42", fleet.other)
    found = parse(path.read_bytes())
    assert (found.kind, found.version, found.entries) == ("krl", 42, 2)


def test_a_plain_list(fleet: Fleet) -> None:
    """A list of public keys revokes these keys and their certificates; a certificate in it stands for its key.

    An authority in it revokes all its certificates. ssh-keygen -Q reads no such list; sshd does (sshkey_in_file,
    authfile.c).
    """
    of_user = {*fleet.certificates, fleet.user}
    by_first = {*fleet.certificates[:5], fleet.first.public}
    for public, revoked in ((fleet.user, of_user), (fleet.first.public, by_first), (fleet.certificates[0], of_user)):
        path = fleet.directory / "plain"
        path.write_text(f"# a comment\n\n  \t{public.read_text()}")
        assert {key for key in fleet.files if ours(path, key)} == revoked


# -- made by hand --------------------------------------------------------------------------------------------------


def test_what_is_read_of_each_section() -> None:
    """All sections of OpenSSH's PROTOCOL.krl are read from one list, some of them twice."""
    text = krl.krl(
        certificates(
            section(0x20, number(9), number(3)),
            section(0x21, number(4), number(8)),
            section(0x22, number(100), mpint(0b101)),
            section(0x23, string(b"amos"), string(b"\xff\0")),
            section(0x39, string(b"extra@example.com"), b"\0", string(b"x")),
            authority=KEY,
        ),
        certificates(section(0x20, number(50)), authority=KEY),
        certificates(),
        section(2, string(KEY)),
        section(3, string(b"1" * 20)),
        section(5, string(b"2" * 32), string(b"3" * 32)),
        section(255, string(b"more@example.com"), b"\0", string(b"")),
        section(4, b"a key") + string(b"a signature"),
        version=9,
    )
    assert parse(text) == Revocations(
        "krl",
        frozenset({KEY}),
        frozenset({b"1" * 20}),
        frozenset({b"2" * 32, b"3" * 32}),
        {KEY: Issued(((3, 9), (50, 50)), ((100, 0b101),), frozenset({"amos", "\udcff"})), b"": Issued()},
        9,
    )


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ((section(6, b""),), "it is a KRL with a section of the unknown type 6"),
        ((certificates(section(0x40, b"")),), "it is a KRL with certificates in a section of the unknown type 64"),
        ((certificates(section(0x20, number(0))),), "it is a KRL, and the serial numbers 0 to 0 in it are none"),
        ((certificates(section(0x21, number(3), number(2))),), "the serial numbers 3 to 2 in it are none"),
        ((certificates(section(0x21, number(2), number(3), b"x")),), "it is a KRL, and it has bytes too many"),
        ((certificates(section(0x20, b"1234")),), "it is a KRL, and it is cut off"),
        ((certificates(section(0x22, number(1), string(b"\xff"))),), "a bitmap in it is negative or too long"),
        ((certificates(section(0x22, number(1), mpint(1 << 16384))),), "a bitmap in it is negative or too long"),
        ((certificates(section(0x22, number(2**64 - 1), mpint(2))),), "a bitmap in it has numbers that are none"),
        ((certificates(section(0x22, number(0), mpint(1))),), "a bitmap in it has numbers that are none"),
        ((certificates(section(0x23, string(b"a\0b"))),), "a key id in it has a NUL in it"),
        ((certificates(authority=b"no key"),), "the key of an authority in it is none"),
        ((section(3, string(b"1" * 19)),), "a hash in it is 19 bytes long, not 20"),
        ((section(5, string(b"1" * 20)),), "a hash in it is 20 bytes long, not 32"),
        ((section(255, string(b"x@example.com"), b"\1", string(b"")),), "critical extension 'x@example.com', which is"),
        ((certificates(section(0x39, string(b"y"), b"\2", string(b""))),), "the critical extension 'y', which is"),
        ((section(255, string(b"x"), b"\0", string(b""), b"z"),), "it is a KRL, and it has bytes too many"),
    ],
)
def test_what_is_not_understood_makes_the_list_unusable(sections: tuple[bytes, ...], reason: str) -> None:
    """An entry that is not understood makes the list unusable, so that no revoked key gets in."""
    assert reason in refusal(krl.krl(section(2, string(KEY)), *sections))


def test_other_versions_and_lengths_are_refused() -> None:
    """An unknown version is refused, and so is a file that would take up all memory."""
    text = krl.krl()
    assert refusal(text[:8] + (2).to_bytes(4, "big") + text[12:]) == "it is a KRL of another version than 1"
    assert refusal(b"#" * (revoked_list.MAX_BYTES + 1)) == f"it is longer than {revoked_list.MAX_BYTES} bytes"


def test_a_krl_that_is_cut_off_is_refused() -> None:
    """A file that is still being written is refused, unless its part ends exactly with a section."""
    first = certificates(section(0x20, number(3)), authority=KEY)
    whole = krl.krl(first, section(2, string(KEY)))
    ends = {0, len(krl.krl()), len(krl.krl()) + len(first)}
    for at in set(range(len(whole))) - ends:
        assert refusal(whole[:at])


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_text_is_a_list_or_an_error(noise: bytes, at: int) -> None:
    """Any bytes are a list or an error: see fuzz.revocation_properties."""
    whole = krl.krl(certificates(section(0x20, number(3)), authority=KEY), section(2, string(KEY)))
    for text in (noise, krl.krl(noise), b"ssh-ed25519 " + noise, whole[:at] + noise + whole[at:], whole[:at] + noise):
        check_list(text)


@given(
    st.lists(st.tuples(st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1)), max_size=5),
    st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**80)), max_size=5),
    st.lists(st.binary(max_size=20), max_size=5),
)
def test_whatever_is_listed_is_revoked(
    spans: list[tuple[int, int]], bitmaps: list[tuple[int, int]], key_ids: list[bytes]
) -> None:
    """In lists that are mostly correct, everything that is listed is revoked."""
    ranges = [section(0x21, number(min(span)), number(max(span))) for span in spans]
    maps = [section(0x22, number(offset), mpint(bits)) for offset, bits in bitmaps]
    check_list(krl.krl(certificates(*ranges, *maps, section(0x23, *map(string, key_ids)), authority=KEY)))


def test_lines_that_are_no_keys_make_the_list_unusable() -> None:
    """A typing mistake is reported with its line at once, and not found when the key gets in."""
    good = ed25519()
    assert refusal(good + b"\nnonsense") == "line 2 is no public key in OpenSSH's one-line form (without options)"
    assert refusal(b"restrict " + good).startswith("line 1 is no public key")
    assert refusal(b"ssh-rsa" + good.removeprefix(b"ssh-ed25519")).startswith("line 1 is no public key")
    assert refusal(b"\nserial: 5") == "line 2 is what a KRL is made from: name the file that ssh-keygen -k has made"
    assert refusal(line("ssh-ed25519", string(b"short"))) == "line 1: an ed25519 key is 32 bytes long, this one 5"
    long_number = line("ssh-rsa", mpint(65537), string(b"\0\0" + b"\xff" * 256))
    assert "not in its shortest form" in refusal(long_number)
    assert refusal(line("ssh-rsa", mpint(65537))).startswith("line 1: 2 fields")


def test_keys_that_nobody_could_use_are_passed_over() -> None:
    """An old list with DSA keys and short RSA keys locks out nobody; sshd skips the short ones, too."""
    text = b"\n".join((line("ssh-dss", mpint(1), mpint(2)), rsa(1024), ed25519() + b" a comment\r"))
    assert parse(text).entries == 1


def test_a_certificate_in_a_list_stands_for_its_key() -> None:
    """A certificate in a list revokes its key, whatever else is wrong with it; without a key it is an error."""
    text = line("ssh-ed25519-cert-v01@openssh.com")
    assert parse(_as_line(made_up(kind=9, signature=b""))).keys == {KEY}
    assert "line 1 is a certificate that can't be read: it is cut off" in refusal(text)


def _as_line(blob: bytes) -> bytes:
    import base64

    return certificate_parser.type_of(blob).encode() + b" " + base64.b64encode(blob)

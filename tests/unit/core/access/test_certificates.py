"""The parser of certificates: it accepts those made by ssh-keygen, and refuses faulty ones made by hand."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.certificate_properties import check_certificate
from pyssh_gateway.core.access import certificates
from pyssh_gateway.core.access.certificates import (
    FOREVER,
    HOST,
    USER,
    CertificateError,
    blobs_in,
    certified,
    parse,
    type_of,
)
from pyssh_gateway.core.access.policy import SIGNATURE_ALGORITHMS
from tests.support.certificates import Authority, blob_of, made_up, make_key, option_list
from tests.support.key_lines import SK_ECDSA, SK_ED25519, mpint, string
from tests.support.security_key import SecurityKey

ED25519 = string(b"ssh-ed25519")
KEY = string(b"\x05" * 32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory for this module's keys."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    """An ed25519 authority."""
    return Authority(directory)


@pytest.fixture(scope="module")
def user(directory: Path) -> Path:
    """A person's public key."""
    return make_key(directory, "user").with_suffix(".pub")


def refusal(blob: bytes) -> str:
    """The reason for which a certificate can't be used."""
    with pytest.raises(CertificateError) as raised:
        parse(blob)
    return str(raised.value)


def test_all_that_a_certificate_says_is_read(authority: Authority, user: Path) -> None:
    """Each field has the value that ssh-keygen was given."""
    options = ("-z", "18446744073709551615", "-V", "20240102030405Z:20340102030405Z", "-O", "force-command=true")
    blob = authority.blob_for(user, *options, "-I", "amos at work", principals="amos,root")
    certificate = parse(blob)
    assert certificate.key_type == "ssh-ed25519"
    assert certificate.public_blob == blob_of(user)
    assert certificate.serial == 2**64 - 1
    assert certificate.kind == USER
    assert certificate.key_id == "amos at work"
    assert certificate.principals == ("amos", "root")
    assert (certificate.valid_after, certificate.valid_before) == (1704164645, 2019783845)
    assert certificate.critical_options == ((b"force-command", string(b"true")),)
    assert certificate.extensions == tuple(
        (b"permit-" + name, b"")
        for name in (b"X11-forwarding", b"agent-forwarding", b"port-forwarding", b"pty", b"user-rc")
    )
    assert (certificate.ca_type, certificate.ca_blob) == ("ssh-ed25519", authority.blob)
    assert certificate.signature_algorithm == "ssh-ed25519"
    assert certificate.signed + string(certificate.signature) == blob


def test_one_that_is_valid_for_ever_and_for_nobody(authority: Authority, user: Path) -> None:
    """Without -V and -n, a certificate is valid for all times and names nobody."""
    certificate = parse(authority.blob_for(user, principals=None))
    assert (certificate.valid_after, certificate.valid_before) == (0, FOREVER)
    assert certificate.principals == ()


def test_a_hosts_is_told_from_a_users(authority: Authority, user: Path) -> None:
    """A certificate made by `ssh-keygen -h` is a host's."""
    assert parse(authority.blob_for(user, "-h")).kind == HOST


@pytest.mark.parametrize(
    ("bits", "key_type"),
    [
        (256, "ecdsa-sha2-nistp256"),
        (384, "ecdsa-sha2-nistp384"),
        (521, "ecdsa-sha2-nistp521"),
        (2048, "ssh-rsa"),
    ],
)
def test_every_type_of_key_is_certified_and_certifies(
    directory: Path, authority: Authority, user: Path, bits: int, key_type: str
) -> None:
    """Each type of key can be certified, and be an authority, and comes out equal to the plain key."""
    other = Authority(directory, key_type, "rsa" if key_type == "ssh-rsa" else "ecdsa", "-b", str(bits))
    certificate = parse(authority.blob_for(other.public))
    assert (certificate.key_type, certificate.public_blob) == (key_type, other.blob)
    certificate = parse(other.blob_for(user))
    assert (certificate.ca_type, certificate.ca_blob) == (key_type, other.blob)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_security_keys_are_certified(directory: Path, authority: Authority, kind: str) -> None:
    """A security key can be certified, and its application stays part of the key."""
    key = SecurityKey("ed25519" if kind == "ed25519" else "ecdsa")
    certificate = parse(authority.blob_for(key.write(directory / f"sk-{kind}.pub")))
    assert (certificate.key_type, certificate.public_blob) == (key.key_type, key.public_data)


def test_rsa_authorities_sign_with_what_they_are_told(directory: Path, user: Path) -> None:
    """The signature's algorithm is read, so that SHA-1 can be refused."""
    authority = Authority(directory, "rsa-authority", "rsa", "-b", "2048")
    for algorithm in ("rsa-sha2-256", "rsa-sha2-512", "ssh-rsa"):
        assert parse(authority.blob_for(user, "-t", algorithm)).signature_algorithm == algorithm


def test_names_are_those_of_the_document() -> None:
    """The names are those of PROTOCOL.certkeys and of sshd's list of algorithms for requests."""
    assert set(certificates.CERTIFICATE_TYPES) == {
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "ssh-rsa-cert-v01@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    }
    assert certified("rsa-sha2-512") == "rsa-sha2-512-cert-v01@openssh.com"
    assert set(certificates.CERTIFICATE_TYPES.values()) == set(SIGNATURE_ALGORITHMS)


def test_what_is_made_up_is_right_by_default() -> None:
    """The certificate made by hand is valid by default; otherwise the refusals below would prove nothing."""
    assert parse(made_up(reserved=b"anything")).principals == ("amos",)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (made_up(b"ssh-ed25519"), "it is of no type that is accepted"),
        (made_up(b"ssh-dss-cert-v01@openssh.com"), "it is of no type that is accepted"),
        (made_up(b"rsa-sha2-512-cert-v01@openssh.com"), "it is of no type that is accepted"),
        (made_up(b"ssh-ed25519-cert-v00@openssh.com"), "it is of no type that is accepted"),
        (made_up(b"ssh-ed25519-cert-v01@openssh.com\0"), "it is of no type that is accepted"),
        (b"", "it is of no type that is accepted"),
        (made_up()[:-1], "it is cut off"),
        (made_up()[:40], "it is cut off"),
        (made_up(after=b"\0"), "it has bytes too many"),
        (made_up(principals=b"\0"), "it is cut off"),
        (made_up(principals=string(b"amos") + b"\0\0\0\1"), "it is cut off"),
        (made_up(principals=string(b"a") * 257), "it has more than 256 principals"),
        (made_up(kind=0), "it is neither a user's nor a host's"),
        (made_up(kind=3), "it is neither a user's nor a host's"),
        (made_up(critical=string(b"verify-required")), "it is cut off"),
        (
            made_up(extensions=option_list((b"permit-pty", b""), (b"permit-pty", b""))),
            "its option 'permit-pty' is there twice or not in its place",
        ),
        (
            made_up(critical=option_list((b"source-address", b""), (b"force-command", b""))),
            "its option 'force-command' is there twice or not in its place",
        ),
        (
            made_up(extensions=option_list((b"b", b""), (b"a\x1b\xff" * 50, b""))),
            "its option " + ascii(("a\x1b\ufffd" * 50)[:64]) + " is there twice or not in its place",
        ),
        (
            made_up(key=string(b"\x05" * 31)),
            "the certified key is refused: an ed25519 key is 32 bytes long, this one 31",
        ),
        (
            made_up(b"ssh-rsa-cert-v01@openssh.com", key=mpint(65537) + mpint((1 << 1023) | 1)),
            "the certified key is refused: an RSA key of 1024 bits is too short: at least 2048 are needed",
        ),
        (
            made_up(b"ecdsa-sha2-nistp256-cert-v01@openssh.com", key=string(b"nistp384") + string(b"\4" * 97)),
            "the certified key is refused: the curve is not nistp256",
        ),
        (made_up(authority=made_up()), "its authority is a certificate itself: chains are not supported"),
        (made_up(authority=b""), "its authority's key is of no type that is accepted"),
        (made_up(authority=string(b"ssh-dss")), "its authority's key is of no type that is accepted"),
        (
            made_up(authority=ED25519 + KEY + b"\0"),
            "the authority's key is refused: the key is cut off or has bytes too many",
        ),
        (made_up(extensions=option_list((b"a", b"\0" * 32768))), "it is longer than 32768 bytes"),
    ],
)
def test_what_is_not_as_prescribed_is_refused(blob: bytes, reason: str) -> None:
    """Each certificate here has one wrong field, and is refused with a readable reason."""
    assert refusal(blob) == reason


def test_as_many_principals_as_openssh_takes() -> None:
    """The limit on principals is OpenSSH's."""
    assert len(parse(made_up(principals=string(b"a" * 32) * 256)).principals) == 256


def test_names_that_are_not_utf8_stay_what_they_were() -> None:
    """Two names that differ in bytes stay different, even if they are not UTF-8."""
    names = [b"amos", b"amos\xff", b"amos\xfe", b"amos\xef\xbf\xbd", b"amos\0", b""]
    certificate = parse(made_up(principals=b"".join(map(string, names)), key_id=b"\xff"))
    assert [name.encode("utf-8", "surrogateescape") for name in certificate.principals] == names
    assert certificate.key_id == "\udcff"


def test_a_signature_that_has_no_algorithm_names_none() -> None:
    """A signature without an algorithm is parsed as one with an empty name, which the policy refuses."""
    assert parse(made_up(signature=b"")).signature_algorithm == ""


@pytest.mark.parametrize(
    ("blob", "expected"),
    [
        (string(b"ssh-ed25519") + KEY, "ssh-ed25519"),
        (made_up(), "ssh-ed25519-cert-v01@openssh.com"),
        (b"", ""),
        (b"\xff\xff\xff\xff", ""),
        (string(b"\xff"), ""),
        (string(SK_ED25519.encode()), SK_ED25519),
        (string(SK_ECDSA.encode())[:-1], ""),
    ],
)
def test_the_type_is_what_the_blob_says(blob: bytes, expected: str) -> None:
    """The type is the blob's first string, if there is one and it is ASCII."""
    assert type_of(blob) == expected


SEEDS = [
    made_up(),
    made_up(critical=option_list((b"force-command", string(b"ls")), (b"source-address", string(b"10.0.0.0/8")))),
    made_up(b"ssh-rsa-cert-v01@openssh.com", key=mpint(65537) + mpint((1 << 2047) | 1)),
    made_up(b"sk-ssh-ed25519-cert-v01@openssh.com", key=KEY + string(b"ssh:")),
]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_refused(data: bytes) -> None:
    """The parser accepts or refuses any bytes, and raises nothing else."""
    check_certificate(data)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
)
def test_damaged_certificates_are_certificates_or_refused(
    seed: bytes, changes: list[tuple[int, int]], dropped: int
) -> None:
    """Certificates with replaced bytes, or without their end, are accepted or refused, and nothing else is raised."""
    data = bytearray(seed)
    for position, value in changes:
        data[position % len(data)] = value
    check_certificate(bytes(data[: len(data) - (dropped if dropped < len(data) else 0)]))


def test_blobs_are_found_among_other_lines(tmp_path: Path) -> None:
    """Commands and the server find the key of a `.pub` file whatever stands around it, and nothing that is no key."""
    authority = Authority(tmp_path, "ca")
    line = authority.public.read_bytes()
    kind, encoded, *_ = line.split()
    others = (
        b"# " + line + b"\n\nssh-ed25519\nssh-rsa " + encoded + b"\n" + kind + b" !not-base64\n" + kind + b" AAAA\n"
    )
    assert list(blobs_in(others)) == []
    assert [type_of(blob).encode() for blob in blobs_in(others + line + line)] == [kind, kind]

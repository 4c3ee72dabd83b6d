"""Signatures: right ones are accepted and all others refused, including made-up ones."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import asyncssh
import msgspec
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA512
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway.core.access.certificates import certified, parse
from pyssh_gateway.core.access.policy import SIGNATURE_ALGORITHMS, Proof
from pyssh_gateway.monitor import signatures
from pyssh_gateway.monitor.signatures import MALFORMED, certificate_verified, read_proof, verified
from tests.support.certificates import Authority, blob_of, made_up, make_key
from tests.support.key_lines import SK_ECDSA, SK_ED25519, blob, mpint, string
from tests.support.security_key import TOUCHED, VERIFIED, SecurityKey

DATA = b"what is signed"

KEYS: dict[str, asyncssh.SSHKey] = {
    "ssh-ed25519": asyncssh.generate_private_key("ssh-ed25519"),
    "ecdsa-sha2-nistp256": asyncssh.generate_private_key("ecdsa-sha2-nistp256"),
    "ecdsa-sha2-nistp384": asyncssh.generate_private_key("ecdsa-sha2-nistp384"),
    "ecdsa-sha2-nistp521": asyncssh.generate_private_key("ecdsa-sha2-nistp521"),
    "ssh-rsa": asyncssh.generate_private_key("ssh-rsa", key_size=2048),
}
RSA = KEYS["ssh-rsa"]
SECURITY_KEYS = {SK_ED25519: SecurityKey("ed25519"), SK_ECDSA: SecurityKey("ecdsa")}
BLOBS = [*(key.public_data for key in KEYS.values()), *(key.public_data for key in SECURITY_KEYS.values())]

ALGORITHMS = [(key_type, algorithm) for key_type in KEYS for algorithm in sorted(SIGNATURE_ALGORITHMS[key_type])]


def is_right(signer: bytes, signature: bytes, data: bytes = DATA, *, touch: bool = True) -> bool:
    """Whether the signature over `data` is accepted."""
    return verified(signer, data, signature, touch_required=touch)


# -- what a signature says of itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "proof"),
    [
        (string(b"ssh-ed25519") + string(b"x" * 64), Proof("ssh-ed25519")),
        (string(b"no-such") + string(b""), Proof("no-such")),
        (string(b"no\xff\n") + string(b""), Proof("no\\xff\n")),
        (string(SK_ED25519.encode()) + string(b"x") + b"\5\0\0\0\1", Proof(SK_ED25519, 5)),
        (string(SK_ECDSA.encode()) + string(b"x") + b"\0", Proof(SK_ECDSA, 0)),
        (string(SK_ECDSA.encode()) + string(b"x"), Proof(MALFORMED)),
        (string(b"webauthn-" + SK_ECDSA.encode()) + string(b"x") + b"\1", Proof(f"webauthn-{SK_ECDSA}")),
        (string(b"ssh-ed25519"), Proof(MALFORMED)),
        (b"", Proof(MALFORMED)),
        (b"\xff\xff\xff\xff", Proof(MALFORMED)),
    ],
)
def test_a_signature_names_its_algorithm_and_flags(signature: bytes, proof: Proof) -> None:
    """Only a security key's signature has flags; one that can't be read is reported as malformed."""
    assert read_proof(signature) == proof


# -- plain keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key_type", "algorithm"), ALGORITHMS)
def test_the_keys_own_signature_is_right(key_type: str, algorithm: str) -> None:
    """A key's signature is right for exactly this data and this key, and only unchanged."""
    key = KEYS[key_type]
    signature = key.sign(DATA, algorithm.encode())
    assert is_right(key.public_data, signature)
    assert not is_right(key.public_data, signature, DATA + b"\0")
    assert not is_right(key.public_data, signature + b"\0")
    assert not is_right(key.public_data, signature[:-1])
    assert not is_right(key.public_data, b"")
    for other in BLOBS:
        assert other == key.public_data or not is_right(other, signature)


@pytest.mark.parametrize("algorithm", [b"ssh-rsa", b"rsa2048-sha256", b"ssh-rsa-sha256@ssh.com"])
def test_algorithms_that_asyncssh_knows_and_we_do_not_accept(algorithm: bytes) -> None:
    """A signature with SHA-1, or under another standard's name, is refused although it would verify."""
    signature = RSA.sign(DATA, algorithm)
    assert read_proof(signature) == Proof(algorithm.decode())
    assert RSA.convert_to_public().verify(DATA, signature)
    assert not is_right(RSA.public_data, signature)


def test_rsa_signatures_may_be_short_by_their_leading_zeros() -> None:
    """Leading zeros may be missing: PuTTY leaves them out, which affects one signature in 256."""
    for number in range(10_000):
        data = number.to_bytes(4, "big")
        whole = RSA.sign(data, b"rsa-sha2-256")[-256:]
        if whole[0] == 0:
            break
    short = whole.lstrip(b"\0")
    assert is_right(RSA.public_data, string(b"rsa-sha2-256") + string(short), data)
    assert is_right(RSA.public_data, string(b"rsa-sha2-256") + string(whole), data)
    assert not is_right(RSA.public_data, string(b"rsa-sha2-256") + string(b"\0" + whole), data)
    assert not is_right(RSA.public_data, string(b"rsa-sha2-256") + string(short[:-1]), data)


@pytest.mark.parametrize(
    "signer",
    [
        b"",
        b"\xff" * 8,
        blob("ssh-ed25519"),
        blob("ssh-ed25519", string(b"\5" * 31)),
        blob("ecdsa-sha2-nistp256", string(b"nistp256"), string(b"\4" * 65)),  # not on the curve
        blob("ecdsa-sha2-nistp256", string(b"nistp256"), string(b"\0")),
        blob("ecdsa-sha2-nistp256", string(b"no-such"), string(b"\4" * 65)),
        blob("ssh-rsa", mpint(65537), mpint(0)),
        blob("ssh-rsa", mpint(0), mpint((1 << 2047) | 1)),
        blob("ssh-rsa", mpint(2), mpint(4)),
        blob("ssh-rsa", string(b"\xff"), string(b"\xff")),
        blob("ssh-rsa", mpint(3), mpint((1 << 20_000) | 1)),
        blob(SK_ED25519, string(b"\5" * 32), string(b"\xff")),
        blob(SK_ECDSA, string(b"nistp256"), string(b"\4" * 65), string(b"ssh:")),
        made_up(),
    ],
)
def test_what_is_no_key_has_signed_nothing(signer: bytes) -> None:
    """A malformed key has no right signatures and raises nothing; keys are checked when read and again when used."""
    for algorithm in sorted(set().union(*SIGNATURE_ALGORITHMS.values())):
        assert not is_right(signer, string(algorithm.encode()) + string(b"x" * 64) + b"\1\0\0\0\1")


# -- asyncssh as the oracle --------------------------------------------------------------------------------------


def asyncssh_agrees(signer: bytes, data: bytes, signature: bytes, *, touch: bool) -> bool:
    """Whether asyncssh accepts the signature, and we accept its algorithm at all."""
    try:
        key = asyncssh.public_key.decode_ssh_public_key(signer)
        key.set_touch_required(touch)
        allowed = SIGNATURE_ALGORITHMS.get(key.algorithm.decode("ascii", "replace"), ())
        return read_proof(signature).algorithm in allowed and key.verify(data, signature)
    except (ValueError, OverflowError, UnsupportedAlgorithm):
        return False


def signing(key: asyncssh.SSHKey, algorithm: str) -> Callable[[bytes], bytes]:
    """A function that signs with the key and that algorithm."""
    return lambda data: key.sign(data, algorithm.encode())


SIGNERS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    *((KEYS[name].public_data, signing(KEYS[name], algorithm)) for name, algorithm in ALGORITHMS),
    *((key.public_data, key.sign) for key in SECURITY_KEYS.values()),
]


@given(st.sampled_from(SIGNERS), st.binary(max_size=100), st.booleans(), st.data())
@settings(max_examples=300)
def test_what_is_changed_is_judged_as_by_asyncssh(
    signer: tuple[bytes, Callable[[bytes], bytes]], data: bytes, touch: bool, draw: st.DataObject
) -> None:
    """Both accept the key's own signature, and agree on signatures and keys in which a few bytes were changed."""
    public, sign = signer
    for key in SECURITY_KEYS.values():
        key.flags = draw.draw(st.sampled_from([0, TOUCHED, VERIFIED]))
    signature = sign(data)
    assert verified(public, data, signature, touch_required=touch) == asyncssh_agrees(
        public, data, signature, touch=touch
    )
    changed = {"key": bytearray(public), "signature": bytearray(signature)}
    for _ in range(draw.draw(st.integers(1, 3))):
        what = changed[draw.draw(st.sampled_from(sorted(changed)))]
        what[draw.draw(st.integers(0, 999)) % len(what)] = draw.draw(st.integers(0, 255))
    one, other = bytes(changed["key"]), bytes(changed["signature"]) + draw.draw(st.sampled_from([b"", b"\0"]))
    expected = asyncssh_agrees(one, data, other, touch=touch)
    assert verified(one, data, other, touch_required=touch) == expected


@pytest.mark.parametrize("key_type", ["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"])
def test_new_keys_of_every_curve(key_type: str) -> None:
    """Signatures of many new keys are right, also with short numbers and with numbers that need a leading zero."""
    for number in range(50):
        key = asyncssh.generate_private_key(key_type)
        data = bytes([number])
        assert is_right(key.public_data, key.sign(data, key.algorithm), data)


@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", SK_ECDSA])
@pytest.mark.parametrize(
    ("r", "s"),
    [(b"", b""), (b"\1", b""), (b"\xff", b"\1"), (b"\1", b"\x80"), (b"\0" * 9, b"\1"), (b"\x7f" * 99, b"\1")],
)
def test_numbers_that_no_signature_has_are_wrong(kind: str, r: bytes, s: bytes) -> None:
    """Numbers that are zero, negative or too large are refused; cryptography raises for some of them."""
    (signer,) = (blob for blob in BLOBS if blob.startswith(string(kind.encode())))
    after = b"\1\0\0\0\1" if kind == SK_ECDSA else b""
    assert not is_right(signer, string(kind.encode()) + string(string(r) + string(s)) + after)


def test_a_curve_that_openssl_lacks_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A curve that the distribution's OpenSSL lacks is refused without an exception."""

    class Lacking:
        def __init__(self) -> None:
            raise UnsupportedAlgorithm("no such curve")

    key = KEYS["ecdsa-sha2-nistp521"]
    signature = key.sign(DATA, key.algorithm)
    monkeypatch.setattr(signatures, "CURVES", {b"nistp521": (Lacking, SHA512)})
    assert not is_right(key.public_data, signature)


# -- security keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SK_ED25519, SK_ECDSA])
@pytest.mark.parametrize(
    ("flags", "touched"), [(TOUCHED, True), (TOUCHED | VERIFIED, True), (0, False), (VERIFIED, False)]
)
def test_a_security_keys_signature_covers_its_flags(kind: str, flags: int, touched: bool) -> None:
    """A security key's signature covers its flags, and a touch is required here, too."""
    key = SECURITY_KEYS[kind]
    key.flags = flags
    signature = key.sign(DATA)
    assert read_proof(signature) == Proof(kind, flags)
    assert is_right(key.public_data, signature) == touched
    assert is_right(key.public_data, signature, touch=False)
    assert not is_right(key.public_data, signature, DATA + b"\0", touch=False)
    assert not is_right(key.public_data, signature + b"\0", touch=False)
    for other in range(256):
        forged = signature[:-5] + bytes([other]) + signature[-4:]
        assert other == flags or not is_right(key.public_data, forged, touch=False)
    assert not is_right(key.public_data, signature[:-1] + bytes([signature[-1] ^ 1]), touch=False)


def test_a_security_keys_signature_is_for_its_application() -> None:
    """A signature for a web site by the same key is refused, and so is the browsers' form (webauthn-sk-ecdsa)."""
    key = SECURITY_KEYS[SK_ECDSA]
    elsewhere = blob(SK_ECDSA, key.public_data[len(string(SK_ECDSA.encode())) : -8], string(b"ssh:example"))
    assert is_right(key.public_data[:-8] + string(b"ssh:"), key.sign(DATA), touch=False)
    assert not is_right(elsewhere, key.sign(DATA), touch=False)
    origin = b'{"type":"webauthn.get","challenge":"d2hhdCBpcyBzaWduZWQ","origin":"ssh:"}'
    name = f"webauthn-{SK_ECDSA}".encode()
    browsers = (
        string(name) + key.sign(origin)[len(string(key.algorithm)) :] + string(b"ssh:") + string(origin) + string(b"")
    )
    assert asyncssh.import_public_key(key.public_line).verify(DATA, browsers)
    assert not is_right(key.public_data, browsers, touch=False)


def test_the_software_key_signs_as_the_document_says() -> None:
    """The test's software key follows PROTOCOL.u2f: application, flags, counter, message; other tests rely on that."""
    key = SecurityKey("ed25519", flags=5)
    signature = key.sign(DATA)
    signed = sha256(b"ssh:").digest() + b"\5" + (1).to_bytes(4, "big") + sha256(DATA).digest()
    plain = blob("ssh-ed25519", key.public_data[len(string(key.algorithm)) :][:36])
    inner = signature[len(string(key.algorithm)) : -5]
    assert is_right(plain, string(b"ssh-ed25519") + inner, signed)


# -- certificates ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of this module's keys."""
    return tmp_path_factory.mktemp("signatures")


@pytest.mark.parametrize(
    ("name", "options", "is_accepted"),
    [
        ("ed25519", (), True),
        ("ecdsa-256", (), True),
        ("ecdsa-384", (), True),
        ("ecdsa-521", (), True),
        ("rsa-2048", ("-t", "rsa-sha2-256"), True),
        ("rsa-2048", ("-t", "rsa-sha2-512"), True),
        ("rsa-2048", ("-t", "ssh-rsa"), False),
    ],
)
def test_certificates_are_their_authoritys(
    directory: Path, name: str, options: tuple[str, ...], is_accepted: bool
) -> None:
    """ssh-keygen's certificates are right, except with SHA-1, and any changed byte makes them wrong."""
    user = make_key(directory, f"user-{name}-{len(options)}-{'-'.join(options[1:])}").with_suffix(".pub")
    kind, _, bits = name.partition("-")
    authority = Authority(directory, f"ca-{user.stem}", kind, *(["-b", bits] if bits else []))
    certificate = authority.blob_for(user, "-O", "force-command=true", *options)
    assert certificate_verified(parse(certificate)) == is_accepted
    read = parse(certificate)
    assert (read.public_blob, read.ca_blob) == (blob_of(user), authority.blob)
    for position in range(0, len(read.signed), 7):
        signed = bytearray(read.signed)
        signed[position] ^= 1
        assert not certificate_verified(msgspec.structs.replace(read, signed=bytes(signed)))
    other = Authority(directory, f"other-{user.stem}")
    assert not certificate_verified(msgspec.structs.replace(read, ca_blob=other.blob))


@pytest.mark.parametrize("kind", [SK_ED25519, SK_ECDSA])
def test_security_keys_can_be_authorities(kind: str) -> None:
    """A security key can be an authority, touched or not, as in sshd (ssh-keygen can't sign with a software one)."""
    key = SECURITY_KEYS[kind]
    for key.flags in (0, TOUCHED):
        unsigned = parse(made_up(authority=key.public_data, signature=string(kind.encode())))
        signed = parse(made_up(authority=key.public_data, signature=key.sign(unsigned.signed)))
        assert certificate_verified(signed)
        assert not certificate_verified(unsigned)


def test_a_certificate_is_not_a_key_to_verify_with() -> None:
    """Only plain keys verify signatures, and only under their plain names."""
    key = KEYS["ssh-ed25519"]
    fields = key.public_data[len(string(b"ssh-ed25519")) :]
    certificate = made_up(key=fields)
    signature = key.sign(DATA, b"ssh-ed25519")
    assert is_right(parse(certificate).public_blob, signature)
    assert not is_right(certificate, signature)
    renamed = string(certified("ssh-ed25519").encode()) + signature[len(string(b"ssh-ed25519")) :]
    assert not is_right(parse(certificate).public_blob, renamed)


# -- arbitrary bytes ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from([name.encode() for names in SIGNATURE_ALGORITHMS.values() for name in names] + [b"ssh-rsa"])


@given(
    st.one_of(st.sampled_from(BLOBS), st.binary(max_size=100)),
    st.one_of(
        st.binary(max_size=100),
        st.builds(
            lambda name, inner, after: string(name) + string(inner) + after,
            NAMES,
            st.binary(max_size=300),
            st.binary(max_size=6),
        ),
        st.builds(
            lambda name, r, s, after: string(name) + string(string(r) + string(s)) + after,
            NAMES,
            st.binary(max_size=70),
            st.binary(max_size=70),
            st.binary(max_size=6),
        ),
    ),
)
def test_nothing_that_is_made_up_is_right(signer: bytes, signature: bytes) -> None:
    """No made-up signature is right, and none raises an exception."""
    assert isinstance(read_proof(signature), Proof)
    assert not is_right(signer, signature, touch=False)

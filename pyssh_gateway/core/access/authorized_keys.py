"""Public keys of people: key lines, fingerprints, and the snapshot that a login is decided on.

The parser reads what OpenSSH's sshd(8) describes under AUTHORIZED_KEYS FILE FORMAT and what GitHub serves as
`<login>.keys`. A key is taken only if its binary form is exactly what its type prescribes, because keys are looked up
by comparing bytes: another encoding of the same key would never match. A line that is not understood is refused, and
does not affect the other lines. This module knows nothing about where the text comes from.
"""

import binascii
import hashlib
import re
from collections.abc import Mapping

import msgspec

from pyssh_gateway.config.types import KEY_TYPES
from pyssh_gateway.core.access.key_options import NO_OPTIONS, KeyOptions, KeyOptionsError, parse_options
from pyssh_gateway.core.access.revocations import RevokedList

MAX_KEYS = 1000
"""Keys taken from one text. Accounts have a handful; sshd's own linear search is meant for hundreds at most."""

MAX_KEYS_BYTES = 1024 * 1024
"""Size of one text. MAX_KEYS of the longest usual lines, RSA 4096 at 740 bytes, are 723 KiB: no text that the other
bound lets through is cut by this one."""

MAX_LINES = 4096
"""Lines read of one text: four per key leaves room for comments, and a megabyte of line feeds costs milliseconds."""

MAX_LINE_BYTES = 16 * 1024
"""Length of one line: the longest key accepted, RSA 16384, is 2.8 KiB in base64; sshd's limit is 8 KiB."""

MAX_REFUSALS = 20
"""Reasons kept for one text: enough to see what is wrong with it. All of them go into one event."""

MAX_COMMENT = 256
"""Characters kept of a key's comment: it is shown to people, on one line."""

MIN_RSA_BITS = 2048  # NIST SP 800-131A: anything shorter is disallowed
MAX_RSA_BITS = 16384  # OPENSSL_RSA_MAX_MODULUS_BITS; verifying is slow long before that
MAX_RSA_EXPONENT_BITS = 64  # OPENSSL_RSA_MAX_PUBEXP_BITS

_ED25519_BYTES = 32  # RFC 8032 section 5.1.5
_POINT_BYTES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}  # SEC 1 section 2.3.3: 0x04 and two coordinates
_UNCOMPRESSED = 4

ACCEPTED_TYPES = frozenset(KEY_TYPES)
"""Key types that may log in."""

# No option name of sshd(8) begins like this, so the first word of a line tells whether it is a key type or options.
_TYPE_PREFIXES = (b"ssh-", b"ecdsa-", b"sk-", b"webauthn-", b"x509v3-")

# The options field ends where sshkey_advance_past_options (OpenSSH's sshkey.c) ends it: at a blank outside quotation
# marks; \" does not count as one. All quantifiers are possessive, so no input causes backtracking.
_OPTIONS = re.compile(rb'(?:[^\\" \t]|\\"|\\|"(?:[^\\"]|\\"|\\)*+")++(?=[ \t])')


class AuthorizedKey(msgspec.Struct, frozen=True):
    """A key that may log in, or whose certificates may (`options.cert_authority`).

    `blob` is the RFC 4253 section 6.6 public key, `source` the spec that it came from. `person` is the key's owner, as
    far as the source knows (`github:example`), and `person_id` the number of the owner's account there.
    """

    blob: bytes
    key_type: str
    fingerprint: str
    comment: str
    source: str
    options: KeyOptions = NO_OPTIONS
    person: str = ""
    person_id: int | None = None


class ParsedKeys(msgspec.Struct, frozen=True):
    """The result of parsing a text. `refused` gives the reasons of the first MAX_REFUSALS of `refused_count` bad lines.

    `refused_keys`: some of the bad lines are public keys. A text that has bad lines, but no keys at all, is probably
    not a list of keys; it may be an error page.
    """

    accepted: tuple[AuthorizedKey, ...]
    refused: tuple[str, ...]
    refused_count: int
    refused_keys: bool = False


class AccountKeys(msgspec.Struct, frozen=True):
    """The keys that may log in to one account. A key that several lines name is found with each, in their order.

    `authorities` are the keys whose certificates may log in, by the authority's blob. `only_fingerprints` and
    `key_types` restrict keys and, by the key that they certify, certificates; empty: no restriction. `failures` are the
    backend errors of this account's sources whose last fetch failed: they may have keys that are missing here.
    """

    keys: Mapping[bytes, tuple[AuthorizedKey, ...]] = msgspec.field(default_factory=dict)
    authorities: Mapping[bytes, tuple[AuthorizedKey, ...]] = msgspec.field(default_factory=dict)
    only_fingerprints: frozenset[str] = frozenset()
    key_types: frozenset[str] = frozenset()
    failures: tuple[str, ...] = ()


class KeySnapshot(msgspec.Struct, frozen=True):
    """The keys that may log in, by the account's name, at one moment. Replaced as a whole, never changed.

    `fetched` says for each source when its keys were last confirmed, in Unix seconds; once that is more than
    `max_stale` seconds ago, the source lets nobody in. `revoked` are the revocation lists, which take precedence over
    every source.
    """

    accounts: Mapping[str, AccountKeys]
    fetched: Mapping[str, float] = msgspec.field(default_factory=dict)
    max_stale: float | None = None
    revoked: tuple[RevokedList, ...] = ()

    def find(self, user: str, blob: bytes) -> tuple[AuthorizedKey, ...]:
        """The lines that let the key `blob` log in as `user`."""
        account = self.accounts.get(user)
        return account.keys.get(blob, ()) if account is not None else ()


class _RefusedLineError(Exception):
    """The reason why a line is not a key that may log in."""


def fingerprint(blob: bytes) -> str:
    """The SHA256 fingerprint of a public key, in the form that OpenSSH prints."""
    digest = binascii.b2a_base64(hashlib.sha256(blob).digest(), newline=False)
    return "SHA256:" + digest.decode("ascii").rstrip("=")


def parse(text: bytes, source: str, allow_options: bool, *, authorities: bool = False) -> ParsedKeys:
    """The keys in `text`, each marked as coming from `source`; never raises, whatever `text` is.

    A line with options is refused unless `allow_options`, that is, unless the text's author may set options. Ignoring
    `from=` or `command=` instead would grant more than the line does. `authorities`: every key is a certificate
    authority, whether or not its line says so (sshd's TrustedUserCAKeys). A key that several lines name is accepted
    with each, once for the same options.
    """
    if len(text) > MAX_KEYS_BYTES:
        return ParsedKeys((), (f"the text is longer than {MAX_KEYS_BYTES} bytes, none of it was read",), 1)
    accepted: dict[tuple[bytes, KeyOptions], AuthorizedKey] = {}
    refused: list[str] = []
    refused_keys = False
    for number, raw_line in enumerate(text.split(b"\n", MAX_LINES), start=1):
        line = raw_line.strip(b" \t\r")
        if not line:
            continue
        if number > MAX_LINES or len(accepted) == MAX_KEYS:
            refused.append(f"line {number} and what follows: not read after {MAX_LINES} lines or {MAX_KEYS} keys")
            break
        if line.startswith(b"#"):
            continue
        try:
            key = _parse_line(line, source, allow_options, authorities)
        except _RefusedLineError as error:
            refused.append(f"line {number}: {error}")
            refused_keys = refused_keys or is_key_line(line)
        else:
            accepted.setdefault((key.blob, key.options), key)
    return ParsedKeys(tuple(accepted.values()), tuple(refused[:MAX_REFUSALS]), len(refused), refused_keys)


def is_key_line(line: bytes) -> bool:
    """Whether `line` (without blanks around it) is a public key, of whatever type and size, with or without options.

    A public key begins with the length of its type's name (RFC 4253 section 6.6), which is far below 256: in base64
    that is AAAA. In a sentence about SSH keys, that does not follow the name of a type.
    """
    _, line = _split_options(line)
    type_word, rest = _split_word(line.replace(b"\t", b" "))
    return type_word.startswith(_TYPE_PREFIXES) and rest.startswith(b"AAAA")


def _parse_line(line: bytes, source: str, allow_options: bool, authorities: bool) -> AuthorizedKey:
    if len(line) > MAX_LINE_BYTES:
        raise _RefusedLineError(f"longer than {MAX_LINE_BYTES} bytes")
    options, line = _split_options(line)
    if options and not allow_options:
        raise _RefusedLineError(f"options are not allowed in keys from {source}")
    type_word, rest = _split_word(line.replace(b"\t", b" "))
    key_type = type_word.decode("ascii", "replace")
    if key_type not in ACCEPTED_TYPES:
        raise _RefusedLineError(_why_not_a_key(key_type))
    encoded, comment = _split_word(rest)
    blob = _decode(encoded)
    _check_structure(key_type, _split_strings(blob))
    return AuthorizedKey(
        blob=blob,
        key_type=key_type,
        fingerprint=fingerprint(blob),
        comment=comment.decode("utf-8", "surrogateescape")[:MAX_COMMENT],
        source=source,
        options=_read_options(options, key_type, authorities),
    )


def _split_options(line: bytes) -> tuple[bytes, bytes]:
    """The options field, empty if there is none, and the rest. A field counts as options only if a key follows it."""
    if not line.startswith(_TYPE_PREFIXES) and (options := _OPTIONS.match(line)) is not None:
        rest = line[options.end() :].lstrip(b" \t")
        if rest.startswith(_TYPE_PREFIXES):
            return options[0], rest
    return b"", line


def _split_word(text: bytes) -> tuple[bytes, bytes]:
    word, _, rest = text.partition(b" ")
    return word, rest.lstrip(b" ")


def _why_not_a_key(first_word: str) -> str:
    # A line that is neither a key nor options is not quoted: it may come from a private key file, and reasons go to
    # logs.
    if first_word == "ssh-dss":
        return "DSA keys are too weak to log in with: make a new key with ssh-keygen -t ed25519"
    is_type = first_word.encode().startswith(_TYPE_PREFIXES)
    if "-cert-v0" in first_word and is_type:
        return "certificates are not accepted: put the plain public key here"
    if is_type:
        return f"key type {first_word[:40]!a} is not accepted"
    if first_word.startswith("-----BEGIN"):
        return "this is not a public key in OpenSSH's one-line form: use the file that ends in .pub"
    return "not a public key"


def _read_options(text: bytes, key_type: str, authority: bool) -> KeyOptions:
    """The options in the field `text` for a key of this type. `authority`: it is a CA anyway."""
    try:
        options = parse_options(text)
    except KeyOptionsError as error:
        raise _RefusedLineError(f"options: {error}") from None
    if authority:
        options = msgspec.structs.replace(options, cert_authority=True)
    if options.principals and not options.cert_authority:  # as sshd (auth_authorise_keyopts in auth2-pubkeyfile.c)
        raise _RefusedLineError("options: principals= goes with cert-authority, and this line has none")
    # Only a security key's signature can say that the user was verified; sshd ignores the option for other keys.
    if options.verify_required and not (options.cert_authority or key_type.startswith("sk-")):
        raise _RefusedLineError(f"options: verify-required is for security keys, and {key_type} keys are none")
    return options


def _decode(encoded: bytes) -> bytes:
    if not encoded:
        raise _RefusedLineError("the key itself is missing")
    try:
        blob = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        blob = b""
    # Encoding again and comparing is stricter than decoding: it also detects bits set in the padding.
    if binascii.b2a_base64(blob, newline=False) != encoded:
        raise _RefusedLineError("the key is not valid base64: it may have been cut off or wrapped")
    return blob


def _split_strings(blob: bytes) -> tuple[bytes, ...]:
    """The RFC 4251 section 5 strings that `blob` consists of, exactly."""
    strings: list[bytes] = []
    end = 0
    while end < len(blob):
        start = end + 4
        end = start + int.from_bytes(blob[start - 4 : start], "big")
        strings.append(blob[start:end])
    if end != len(blob):
        raise _RefusedLineError("the key is cut off or has bytes too many")
    return tuple(strings)


def _check_structure(key_type: str, strings: tuple[bytes, ...]) -> None:
    inner_type = strings[0]
    if inner_type != key_type.encode():
        shown = ascii(inner_type[:40].decode("ascii", "replace"))
        raise _RefusedLineError(f"the line says {key_type}, the key inside is of type {shown}")
    match key_type, strings[1:]:
        case "ssh-ed25519", (point,):  # RFC 8709 section 4
            _check_ed25519(point)
        case "sk-ssh-ed25519@openssh.com", (point, application):  # OpenSSH PROTOCOL.u2f
            _check_ed25519(point)
            _check_application(application)
        case "ssh-rsa", (exponent, modulus):  # RFC 4253 section 6.6
            _check_rsa(_mpint(exponent), _mpint(modulus))
        case "sk-ecdsa-sha2-nistp256@openssh.com", (curve, point, application):  # OpenSSH PROTOCOL.u2f
            _check_point("nistp256", curve, point)
            _check_application(application)
        case "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521", (curve, point):  # RFC 5656 3.1
            _check_point(key_type.removeprefix("ecdsa-sha2-"), curve, point)
        case _:
            raise _RefusedLineError(f"{len(strings)} fields are not what an {key_type} key consists of")


def _check_ed25519(point: bytes) -> None:
    if len(point) != _ED25519_BYTES:
        raise _RefusedLineError(f"an ed25519 key is {_ED25519_BYTES} bytes long, this one {len(point)}")


def _check_point(expected: str, curve: bytes, point: bytes) -> None:
    if curve != expected.encode():
        raise _RefusedLineError(f"the curve is not {expected}")
    if len(point) != _POINT_BYTES[expected] or point[0] != _UNCOMPRESSED:
        raise _RefusedLineError(f"not an uncompressed point of {expected}")


def _check_application(application: bytes) -> None:
    # OpenSSH reads it as a C string; a NUL in it would be two different applications.
    if b"\0" in application:
        raise _RefusedLineError("the security key's application has a NUL in it")


def _check_rsa(exponent: int, modulus: int) -> None:  # RFC 8017 section 3.1
    bits = modulus.bit_length()
    if bits < MIN_RSA_BITS:
        raise _RefusedLineError(f"an RSA key of {bits} bits is too short: at least {MIN_RSA_BITS} are needed")
    if bits > MAX_RSA_BITS:
        raise _RefusedLineError(f"an RSA key of {bits} bits is too long: at most {MAX_RSA_BITS} are accepted")
    if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > MAX_RSA_EXPONENT_BITS or modulus % 2 == 0:
        raise _RefusedLineError("not an RSA key: modulus or exponent is even, or the exponent too small or too large")


def _mpint(data: bytes) -> int:
    """RFC 4251 section 5: a positive number, most significant byte first, in the fewest bytes."""
    number = int.from_bytes(data, "big", signed=True)
    if number <= 0 or len(data) != number.bit_length() // 8 + 1:
        raise _RefusedLineError("not an RSA key: a number in it is not positive or not in its shortest form")
    return number

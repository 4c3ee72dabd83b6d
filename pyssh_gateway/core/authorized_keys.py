"""Public keys of people: key lines, fingerprints, and the snapshot that a login is decided on.

The parser reads what OpenSSH's sshd(8) describes under AUTHORIZED_KEYS FILE FORMAT and what GitHub serves as
`<login>.keys`. A key is taken only if its binary form is exactly what its type prescribes, because it is found
again by comparing bytes: a second spelling of the same key would be a key that never matches. A line that is not
understood is refused by itself and harms no other line. This module knows nothing about where the text comes from.
"""

import binascii
import hashlib
import re
from collections.abc import Mapping

import msgspec

MAX_KEYS = 1000
"""Keys taken from one text. Accounts have a handful; sshd's own linear search is at home in the hundreds."""

MAX_KEYS_BYTES = 1024 * 1024
"""Size of one text. MAX_KEYS of the longest usual lines, RSA 4096 at 740 bytes, are 723 KiB: no text that the other
bound lets through is cut by this one."""

MAX_LINES = 4096
"""Lines read of one text: four per key leaves room for comments, and a megabyte of line feeds costs milliseconds."""

MAX_LINE_BYTES = 16 * 1024
"""Length of one line: the longest key accepted, RSA 16384, is 2.8 KiB in base64; sshd's limit is 8 KiB."""

MAX_REFUSALS = 20
"""Reasons kept of one text: enough to see what is wrong with it, and they all go into one event."""

MAX_COMMENT = 256
"""Characters kept of a key's comment: it is shown to people, on one line."""

MIN_RSA_BITS = 2048  # NIST SP 800-131A: anything shorter is disallowed
MAX_RSA_BITS = 16384  # OPENSSL_RSA_MAX_MODULUS_BITS; verifying gets slow for everybody long before
MAX_RSA_EXPONENT_BITS = 64  # OPENSSL_RSA_MAX_PUBEXP_BITS

_ED25519_BYTES = 32  # RFC 8032 section 5.1.5
_POINT_BYTES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}  # SEC 1 section 2.3.3: 0x04 and two coordinates
_UNCOMPRESSED = 4

ACCEPTED_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
"""Key types that may log in."""

# No option name of sshd(8) begins like this, so the first word of a line tells which of the two it is.
_TYPE_PREFIXES = ("ssh-", "ecdsa-", "sk-", "webauthn-", "x509v3-")

# A quoted value as sshd's sshkey_advance_past_options reads it: \" does not end it. Everything is possessive, so
# no input makes the matcher go back.
_QUOTED = re.compile(rb'"(?:[^\\"]|\\"|\\)*+"')
_OPTIONS = re.compile(rb'(?:[^\\" ]|\\"|\\|"(?:[^\\"]|\\"|\\)*+")++(?= )')


class AuthorizedKey(msgspec.Struct, frozen=True):
    """A key that may log in. `blob` is the RFC 4253 section 6.6 public key, `source` the spec that it came from."""

    blob: bytes
    key_type: str
    fingerprint: str
    comment: str
    source: str


class ParsedKeys(msgspec.Struct, frozen=True):
    """What a text held. `refused` gives the reasons of the first MAX_REFUSALS of `refused_count` bad lines."""

    accepted: tuple[AuthorizedKey, ...]
    refused: tuple[str, ...]
    refused_count: int


class KeySnapshot(msgspec.Struct, frozen=True):
    """Who may log in with what, at one moment: account name -> key blob -> key. Replaced whole, never changed."""

    accounts: Mapping[str, Mapping[bytes, AuthorizedKey]]

    def find(self, user: str, blob: bytes) -> AuthorizedKey | None:
        """The key `blob` if it may log in as `user`."""
        keys = self.accounts.get(user)
        return keys.get(blob) if keys is not None else None


class _RefusedLineError(Exception):
    """Why a line is not a key that may log in."""


def fingerprint(blob: bytes) -> str:
    """The SHA256 fingerprint of a public key, in the form that OpenSSH prints."""
    digest = binascii.b2a_base64(hashlib.sha256(blob).digest(), newline=False)
    return "SHA256:" + digest.decode("ascii").rstrip("=")


def parse(text: bytes, source: str, allow_options: bool) -> ParsedKeys:
    """The keys in `text`, each marked as coming from `source`; never raises, whatever `text` is.

    No option is enforced yet, so a line that has any is refused whether or not `allow_options` says that the text's
    author may set some: to ignore `from=` or `command=` would let in more than was granted.
    """
    if len(text) > MAX_KEYS_BYTES:
        return ParsedKeys((), (f"the text is longer than {MAX_KEYS_BYTES} bytes, none of it was read",), 1)
    accepted: dict[bytes, AuthorizedKey] = {}
    refused: list[str] = []
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
            key = _parse_line(line, source, allow_options)
        except _RefusedLineError as error:
            refused.append(f"line {number}: {error}")
        else:
            accepted.setdefault(key.blob, key)
    return ParsedKeys(tuple(accepted.values()), tuple(refused[:MAX_REFUSALS]), len(refused))


def _parse_line(line: bytes, source: str, allow_options: bool) -> AuthorizedKey:
    if len(line) > MAX_LINE_BYTES:
        raise _RefusedLineError(f"longer than {MAX_LINE_BYTES} bytes")
    line = line.replace(b"\t", b" ")
    type_word, rest = _split_word(line)
    key_type = type_word.decode("ascii", "replace")
    if key_type not in ACCEPTED_TYPES:
        raise _RefusedLineError(_why_not_a_key(line, key_type, source, allow_options))
    encoded, comment = _split_word(rest)
    blob = _decode(encoded)
    _check_structure(key_type, _split_strings(blob))
    return AuthorizedKey(
        blob=blob,
        key_type=key_type,
        fingerprint=fingerprint(blob),
        comment=comment.decode("utf-8", "surrogateescape")[:MAX_COMMENT],
        source=source,
    )


def _split_word(text: bytes) -> tuple[bytes, bytes]:
    word, _, rest = text.partition(b" ")
    return word, rest.lstrip(b" ")


def _why_not_a_key(line: bytes, first_word: str, source: str, allow_options: bool) -> str:
    # Of a line that is neither a key nor options nothing is quoted: it may be out of a private key file, and reasons
    # end up in logs.
    if first_word == "ssh-dss":
        return "DSA keys are too weak to log in with: make a new key with ssh-keygen -t ed25519"
    if "-cert-v0" in first_word and first_word.startswith(_TYPE_PREFIXES):
        return "certificates are not accepted: put the plain public key here"
    if first_word.startswith(_TYPE_PREFIXES):
        return f"key type {first_word[:40]!a} is not accepted"
    if first_word.startswith("-----BEGIN"):
        return "this is not a public key in OpenSSH's one-line form: use the file that ends in .pub"
    options = _OPTIONS.match(line)
    if options is None or not line[options.end() :].lstrip(b" ").startswith(tuple(p.encode() for p in _TYPE_PREFIXES)):
        return "not a public key"
    if not allow_options:
        return f"options are not allowed in keys from {source}"
    return f"options are not supported yet: {_option_names(options[0])}"


def _option_names(options: bytes) -> str:
    # Only the names: a value may hold a secret (environment=) or pages of shell (command=).
    names = [option.partition(b"=")[0] for option in _QUOTED.sub(b"", options).split(b",")]
    return ascii(b", ".join(names).decode("ascii", "replace")[:80])[1:-1]


def _decode(encoded: bytes) -> bytes:
    if not encoded:
        raise _RefusedLineError("the key itself is missing")
    try:
        blob = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        blob = b""
    # Comparing is stricter than decoding: it also sees bits set in the padding.
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

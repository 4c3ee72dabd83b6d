"""Key lines made from their parts, valid or not, and the parser's result for one of them."""

import base64
import struct

from pyssh_gateway.core.access.authorized_keys import AuthorizedKey, ParsedKeys, parse

SOURCE = "github:example"


def string(data: bytes) -> bytes:
    """An RFC 4251 string."""
    return struct.pack(">I", len(data)) + data


def mpint(number: int) -> bytes:
    """An RFC 4251 mpint."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def blob(key_type: str, *fields: bytes) -> bytes:
    """A public key of fields that are already encoded."""
    return string(key_type.encode()) + b"".join(fields)


def line(key_type: str, *fields: bytes) -> bytes:
    """A key line."""
    return key_type.encode() + b" " + base64.b64encode(blob(key_type, *fields))


def ed25519(number: int = 1) -> bytes:
    """A key line of type ed25519, a different one for every number."""
    return line("ssh-ed25519", string(number.to_bytes(32, "big")))


def rsa(bits: int, exponent: int = 65537) -> bytes:
    """A key line of type RSA whose modulus has that many bits."""
    return line("ssh-rsa", mpint(exponent), mpint((1 << (bits - 1)) | 1))


def ecdsa(curve: str, size: int, first: int = 4) -> bytes:
    """A key line of type ECDSA whose point has that many bytes."""
    return line(f"ecdsa-sha2-{curve}", string(curve.encode()), string(bytes([first]) + b"\x01" * (size - 1)))


SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
SK_ED25519_LINE = line(SK_ED25519, string(b"\x05" * 32), string(b"ssh:"))
SK_ECDSA_LINE = line(SK_ECDSA, string(b"nistp256"), string(b"\x04" + b"\x05" * 64), string(b"ssh:"))


def parse_one(text: bytes, *, allow_options: bool = False) -> ParsedKeys:
    """The parser's result for a text of one line, which is a key or a refusal."""
    parsed = parse(text, SOURCE, allow_options)
    assert len(parsed.accepted) + parsed.refused_count == 1
    return parsed


def refusal(text: bytes, *, allow_options: bool = False) -> str:
    """The reason why a text of one line is refused."""
    parsed = parse_one(text, allow_options=allow_options)
    assert parsed.accepted == ()
    return parsed.refused[0]


def accepted(text: bytes, *, authorities: bool = False) -> tuple[AuthorizedKey, ...]:
    """The keys of a text that may have options; no line of it is refused."""
    parsed = parse(text, SOURCE, allow_options=True, authorities=authorities)
    assert parsed.refused == ()
    return parsed.accepted

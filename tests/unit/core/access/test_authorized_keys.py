"""core.access.authorized_keys: which keys are accepted and which are refused."""

import base64
import random

import pytest

from pyssh_gateway.core.access.authorized_keys import (
    ACCEPTED_TYPES,
    MAX_KEYS,
    MAX_KEYS_BYTES,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_REFUSALS,
    AccountKeys,
    KeySnapshot,
    ParsedKeys,
    fingerprint,
    parse,
)
from tests.support.key_lines import (
    SK_ECDSA,
    SK_ECDSA_LINE,
    SK_ED25519,
    SK_ED25519_LINE,
    SOURCE,
    accepted,
    blob,
    ecdsa,
    ed25519,
    line,
    mpint,
    parse_one,
    refusal,
    rsa,
    string,
)


@pytest.mark.parametrize(
    "text",
    [
        ed25519(),
        rsa(2048),
        rsa(2049),
        rsa(16384),
        rsa(4096, exponent=3),
        ecdsa("nistp256", 65),
        ecdsa("nistp384", 97),
        ecdsa("nistp521", 133),
        SK_ED25519_LINE,
        SK_ECDSA_LINE,
    ],
    ids=lambda text: text[:30].decode(),
)
def test_accepts_every_modern_key_type(text: bytes) -> None:
    """Each type of key that people have on their accounts is accepted, with its bytes unchanged."""
    (key,) = parse_one(text).accepted
    key_type, _, encoded = text.partition(b" ")
    assert key.key_type == key_type.decode()
    assert key.blob == base64.b64decode(encoded)
    assert key.fingerprint == fingerprint(key.blob)
    assert key.source == SOURCE


def test_covers_all_accepted_types() -> None:
    """The table above has every type that the module accepts."""
    made = [ed25519(), rsa(2048), ecdsa("nistp256", 65), ecdsa("nistp384", 97), ecdsa("nistp521", 133)]
    made += [SK_ED25519_LINE, SK_ECDSA_LINE]
    assert {key.key_type for key in parse(b"\n".join(made), SOURCE, False).accepted} == ACCEPTED_TYPES


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # Types
        (line("ssh-dss", mpint(5)), "DSA keys are too weak"),
        (line("ssh-ed25519-cert-v01@openssh.com", string(b"x")), "certificates are not accepted"),
        (line("ssh-ed448", string(b"x" * 57)), "key type 'ssh-ed448' is not accepted"),
        (line("ecdsa-sha2-secp256k1", string(b"x")), "key type 'ecdsa-sha2-secp256k1' is not accepted"),
        (line("ssh-\x1b[31m", string(b"x")), r"key type 'ssh-\x1b[31m' is not accepted"),
        (ed25519().upper(), "not a public key"),
        (b"2048 65537 1234567890", "not a public key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----", "ends in .pub"),
        (b"Not Found", "not a public key"),
        (b"\xff\xfe\x00", "not a public key"),
        # Encoding
        (b"ssh-ed25519", "the key itself is missing"),
        (b"ssh-ed25519 ====", "not valid base64"),
        (ed25519()[:-1], "not valid base64"),
        (ed25519() + b"=", "not valid base64"),
        (ed25519().replace(b"AAAA", b"AA\rAA", 1), "not valid base64"),
        (ed25519().replace(b"AAAA", b"AA\x00AA", 1), "not valid base64"),
        (ed25519().replace(b"AAAA", b"AA-_", 1), "not valid base64"),
        (SK_ED25519_LINE.replace(b"Do=", b"Dp="), "not valid base64"),
        (b"ssh-ed25519 QUFB" + b"QUFB" * 5000, "longer than"),
        # Shape
        (b"ssh-ed25519 " + base64.b64encode(b"\x00"), "cut off or has bytes too many"),
        (b"ssh-ed25519 " + base64.b64encode(b"\xff\xff\xff\xff"), "cut off or has bytes too many"),
        (b"ssh-ed25519 " + base64.b64encode(blob("ssh-ed25519", string(b"\0" * 32)) + b"\0"), "bytes too many"),
        (b"ssh-ed25519 " + base64.b64encode(blob("ssh-ed25519", string(b"\0" * 32))[:-1]), "cut off"),
        (b"ssh-ed25519 " + rsa(2048).split()[1], "the line says ssh-ed25519, the key inside is of type 'ssh-rsa'"),
        (b"ssh-ed25519 " + base64.b64encode(string(b"\x1b]0;\x07")), r"is of type '\x1b]0;\x07'"),
        (line("ssh-ed25519"), "1 fields are not what an ssh-ed25519 key consists of"),
        (line("ssh-ed25519", string(b"\0" * 32), string(b"")), "3 fields are not"),
        (line("ssh-ed25519", string(b"\0" * 31)), "32 bytes long, this one 31"),
        (line("ssh-ed25519", string(b"\0" * 33)), "32 bytes long, this one 33"),
        (line(SK_ED25519, string(b"\0" * 32)), "2 fields are not"),
        (line(SK_ED25519, string(b"\0" * 31), string(b"ssh:")), "32 bytes long, this one 31"),
        (line(SK_ED25519, string(b"\0" * 32), string(b"ssh:\0x")), "NUL"),
        (line(SK_ECDSA, string(b"nistp384"), string(b"\4" + b"\0" * 64), string(b"ssh:")), "the curve is not nistp256"),
        (line(SK_ECDSA, string(b"nistp256"), string(b"\4" * 64), string(b"ssh:")), "not an uncompressed point"),
        (line(SK_ECDSA, string(b"nistp256"), string(b"\4" * 65), string(b"\0")), "NUL"),
        (line("ecdsa-sha2-nistp384", string(b"nistp256"), string(b"\4" * 65)), "the curve is not nistp384"),
        (ecdsa("nistp256", 64), "not an uncompressed point of nistp256"),
        (ecdsa("nistp256", 65, first=2), "not an uncompressed point of nistp256"),
        (ecdsa("nistp521", 134), "not an uncompressed point of nistp521"),
        # RSA
        (rsa(2047), "2047 bits is too short: at least 2048"),
        (rsa(1024), "1024 bits is too short"),
        (rsa(16385), "16385 bits is too long"),
        (rsa(2048, exponent=1), "not an RSA key"),
        (rsa(2048, exponent=2), "not an RSA key"),
        (rsa(2048, exponent=65536), "not an RSA key"),
        (rsa(2048, exponent=(1 << 64) + 1), "not an RSA key"),
        (line("ssh-rsa", mpint(65537), mpint(1 << 2047)), "not an RSA key"),
        (line("ssh-rsa", string(b""), mpint((1 << 2047) | 1)), "not in its shortest form"),
        (line("ssh-rsa", string(b"\x00\x03"), mpint((1 << 2047) | 1)), "not in its shortest form"),
        (line("ssh-rsa", mpint(3), string(b"\xff" * 256)), "not positive"),
        # Fields in another order, as in other formats
        (line("ssh-rsa", mpint((1 << 2047) | 1), mpint(65537)), "17 bits is too short"),
    ],
)
def test_refuses_what_is_no_proper_key(text: bytes, reason: str) -> None:
    """Only a key that is byte for byte as its type prescribes is accepted, and a refusal has a reason."""
    assert reason in refusal(text)
    assert refusal(text).startswith("line 1: ")
    assert refusal(text).isprintable()


def test_quotes_nothing_of_a_line_it_does_not_understand() -> None:
    """No part of a line that is not understood is quoted, so that a private key named by mistake is not logged."""
    secret = b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"
    text = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + secret + b"\n-----END OPENSSH PRIVATE KEY-----\n"
    parsed = parse(text, SOURCE, allow_options=True)
    assert parsed.refused_count == 3
    assert secret.decode() not in "".join(parsed.refused)
    for options in (b'environment="TOKEN=hunter2",unknown', b'environment="TO-KEN=hunter2"', b'command="hunter2"x'):
        assert "hunter2" not in refusal(options + b" " + ed25519(), allow_options=True)


def test_reads_a_file_as_people_write_them() -> None:
    """Comments, blank lines, Windows line ends, indentation and bad lines do not affect the good lines."""
    text = b"\r\n".join(
        [
            b"# the team",
            b"",
            b"  " + ed25519(1) + b"   one two\tthree  ",
            b"nonsense",
            b"\t",
            b"\tssh-ed25519\t" + ed25519(2).split()[1],
            b"   # indented comment",
            rsa(1024),
            ed25519(3) + b" gr\xc3\xbc\xc3\x9fe \xff",
        ]
    )
    parsed = parse(text, SOURCE, allow_options=False)
    assert [key.comment for key in parsed.accepted] == ["one two three", "", "grüße \udcff"]
    assert parsed.refused == (
        "line 4: not a public key",
        "line 8: an RSA key of 1024 bits is too short: at least 2048 are needed",
    )


def test_merges_a_key_that_is_there_twice() -> None:
    """The same key on two lines is one key, with the first comment, and no error."""
    parsed = parse(ed25519() + b" first\n" + ed25519() + b" second\n", SOURCE, allow_options=False)
    assert [key.comment for key in parsed.accepted] == ["first"]
    assert parsed.refused_count == 0


def test_caps_a_comment() -> None:
    """A comment is cut to 256 characters, so that a key fits into one line of output or log."""
    (key,) = parse_one(ed25519() + b" " + "ü".encode() * 5000).accepted
    assert key.comment == "ü" * 256


@pytest.mark.parametrize("text", [b"", b"\n", b"\r\n \t\n", b"# nothing\n"])
def test_a_text_without_lines_is_no_keys_and_no_error(text: bytes) -> None:
    """An account without keys is told apart from an answer that is not about keys."""
    assert parse(text, SOURCE, allow_options=False) == ParsedKeys((), (), 0)


@pytest.mark.parametrize(
    ("text", "about_keys"),
    [
        (b"ssh-dss AAAAB3NzaC1kc3M=", True),
        (rsa(1024), True),
        (b"junk\n" + b"ssh-ed25519-cert-v01@openssh.com\tAAAA\nmore of it", True),
        (b"restrict " + ed25519(), True),
        (b'restrict,comand="/bin/true" ' + ed25519(), True),
        (ed25519()[:-2], True),
        (ed25519() + b" " + b"x" * MAX_LINE_BYTES, True),
        (b"ssh-key list unavailable", False),
        (b"ssh-ed25519", False),
        (b"Your keys: " + ed25519(), False),
        (b"Rate limit exceeded.\nCome back later.", False),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", False),
    ],
)
def test_tells_refused_keys_from_other_text(text: bytes, about_keys: bool) -> None:
    """A list whose keys are all refused takes keys away, and an error page does not."""
    parsed = parse(text, SOURCE, allow_options=False)
    assert parsed.accepted == ()
    assert parsed.refused_count > 0
    assert parsed.refused_keys == about_keys


def test_takes_a_thousand_keys_and_no_more() -> None:
    """The number of keys that every login searches is limited, and a refusal tells of the rest."""
    lines = [ed25519(number) for number in range(MAX_KEYS + 2)]
    parsed = parse(b"\n".join(lines[:MAX_KEYS]), SOURCE, allow_options=False)
    assert (len(parsed.accepted), parsed.refused_count) == (MAX_KEYS, 0)
    parsed = parse(b"\n".join(lines), SOURCE, allow_options=False)
    assert (len(parsed.accepted), parsed.refused_count) == (MAX_KEYS, 1)
    assert parsed.refused[0].startswith(f"line {MAX_KEYS + 1} and what follows: not read")


def test_a_thousand_of_the_longest_usual_keys_fit() -> None:
    """The limits on keys and on bytes agree, so that a large team's text is not refused for its size."""
    text = b"\n".join(rsa(4096, exponent=2 * number + 3) for number in range(MAX_KEYS))
    assert len(parse(text, SOURCE, allow_options=False).accepted) == MAX_KEYS


def test_reads_a_bounded_number_of_lines() -> None:
    """A megabyte of line feeds or garbage does not hold up everybody's sessions."""
    parsed = parse(b"x\n" * MAX_LINES + ed25519() + b"\n" + ed25519(), SOURCE, allow_options=False)
    assert parsed.accepted == ()
    assert parsed.refused_count == MAX_LINES + 1
    assert len(parsed.refused) == MAX_REFUSALS
    parsed = parse(b"\n" * (MAX_LINES - 1) + ed25519() + b"\n", SOURCE, allow_options=False)
    assert (len(parsed.accepted), parsed.refused_count) == (1, 0)


def test_reads_nothing_of_a_text_that_is_too_large() -> None:
    """A text that is too large costs no memory or time, and no part of it counts."""
    parsed = parse(ed25519() + b"\n" * MAX_KEYS_BYTES, SOURCE, allow_options=False)
    assert parsed.accepted == ()
    assert parsed.refused_count == 1


def test_snapshot_finds_only_what_is_granted() -> None:
    """A key lets in to the accounts for which it is granted, and to no other."""
    keys = accepted(b"restrict " + ed25519() + b"\n" + ed25519())
    (blob,) = {key.blob for key in keys}
    snapshot = KeySnapshot({"dev": AccountKeys(keys={blob: keys}), "ops": AccountKeys(authorities={blob: keys})})
    assert snapshot.find("dev", blob) is keys
    assert snapshot.find("dev", blob + b"\0") == ()
    assert snapshot.find("ops", blob) == ()
    assert snapshot.find("root", blob) == ()


def test_no_text_makes_the_parser_go_back_and_forth() -> None:
    """Endless quotes and backslashes do not make the matcher backtrack, which would block the loop for everybody."""
    generator = random.Random(2)
    nasty = [
        b'a="' + b'\\"' * 8000,
        b"\\" * 16000,
        b'"' * 16000,
        bytes(generator.randbytes(16000)).replace(b"\n", b" "),
    ]
    text = b"\n".join(nasty * 16)[:MAX_KEYS_BYTES]
    assert parse(text, SOURCE, allow_options=True).accepted == ()
    assert len(parse(text, SOURCE, allow_options=False).refused) == MAX_REFUSALS

"""core.access.authorized_keys: properties for any text, and agreement with OpenSSH."""

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.access.authorized_keys import MAX_REFUSALS, fingerprint, parse
from tests.support.key_lines import (
    SK_ECDSA_LINE,
    SK_ED25519_LINE,
    SOURCE,
    ecdsa,
    ed25519,
    parse_one,
    refusal,
    rsa,
)


@given(st.binary(max_size=3000), st.booleans())
def test_never_raises_on_any_bytes(text: bytes, allow_options: bool) -> None:
    """No answer of any server can make the parser raise, and thereby stop the gateway."""
    parsed = parse(text, SOURCE, allow_options)
    assert len(parsed.refused) == min(parsed.refused_count, MAX_REFUSALS)


KEY_WORDS = st.sampled_from(
    [
        *(b"ssh-ed25519", b"ssh-rsa", b"ssh-dss", b"restrict", b"-----BEGIN", b'command="'),
        *(b'"', b'\\"', b"\\", b",", b"=", b" ", b"\t", b"\n", b"\r", b"#", b"\0", b"\xff"),
        *(ed25519().split()[1], rsa(2048).split()[1], SK_ECDSA_LINE),
    ]
)


@given(st.lists(KEY_WORDS, max_size=40).map(b"".join), st.booleans())
def test_never_raises_on_shuffled_pieces_of_key_lines(text: bytes, allow_options: bool) -> None:
    """Texts that resemble key lines make the parser raise nothing either, and only whole key lines are accepted."""
    for key in parse(text, SOURCE, allow_options).accepted:
        assert key.key_type.encode() + b" " + base64.b64encode(key.blob) in b" ".join(text.replace(b"\t", b" ").split())


VALID_LINES = st.sampled_from([ed25519(7), rsa(2048), ecdsa("nistp384", 97), SK_ED25519_LINE, SK_ECDSA_LINE])


@given(VALID_LINES, st.data())
def test_a_corrupted_line_never_passes_for_the_key(valid: bytes, data: st.DataObject) -> None:
    """A fingerprint identifies a key: no damage to a line gives another key with the same fingerprint."""
    (original,) = parse_one(valid).accepted
    position = data.draw(st.integers(0, len(valid) - 1))
    replacement = data.draw(st.binary(max_size=3).filter(lambda new: new != valid[position : position + 1]))
    corrupted = valid[:position] + replacement + valid[position + 1 :]
    for key in parse(corrupted, SOURCE, allow_options=True).accepted:
        same_blob, same_fingerprint = key.blob == original.blob, key.fingerprint == original.fingerprint
        assert same_blob == same_fingerprint
        assert key.key_type.encode() in corrupted
        assert base64.b64encode(key.blob) in corrupted.split()


@given(VALID_LINES, st.binary(max_size=64), st.integers(0, 600))
def test_a_blob_with_anything_inserted_is_never_the_same_key(valid: bytes, inserted: bytes, position: int) -> None:
    """A key has one spelling only: an accepted key, written out again, equals what was read."""
    key_type, encoded = valid.split()
    original = base64.b64decode(encoded)
    changed = original[:position] + inserted + original[position:]
    for key in parse(key_type + b" " + base64.b64encode(changed), SOURCE, allow_options=False).accepted:
        assert key.blob == changed
        assert (changed == original) == (key.fingerprint == fingerprint(original))


@given(st.lists(st.sampled_from([ed25519(n) for n in range(5)] + [b"", b"# x", b"junk", rsa(1024)]), max_size=12))
def test_lines_do_not_influence_each_other(lines: list[bytes]) -> None:
    """A text gives exactly the keys of its lines, in their order."""
    together = parse(b"\n".join(lines), SOURCE, allow_options=False)
    alone = [key for one in lines for key in parse(one, SOURCE, allow_options=False).accepted]
    assert list(together.accepted) == list(dict.fromkeys(alone))


@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "ed25519"],
        ["-t", "ecdsa", "-b", "256"],
        ["-t", "ecdsa", "-b", "384"],
        ["-t", "ecdsa", "-b", "521"],
        ["-t", "rsa", "-b", "2048"],
        ["-t", "rsa", "-b", "3072"],
    ],
    ids=" ".join,
)
def test_agrees_with_ssh_keygen(arguments: list[str], tmp_path: Path) -> None:
    """OpenSSH's own keys are accepted, with the fingerprint and comment that its users see."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "a comment", "-f", path, *arguments], check=True)
    (key,) = parse_one(path.with_suffix(".pub").read_bytes()).accepted
    shown = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout.split()
    assert key.fingerprint == shown[1]
    assert key.comment == "a comment"


def test_refuses_what_ssh_keygen_makes_for_other_purposes(tmp_path: Path) -> None:
    """Certificates and short RSA keys are recognised as OpenSSH really writes them."""
    for name, arguments in {
        "ca": ["-t", "ed25519"],
        "user": ["-t", "ed25519"],
        "short": ["-t", "rsa", "-b", "1024"],
    }.items():
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", tmp_path / name, *arguments], check=True)
    sign = ["ssh-keygen", "-q", "-s", "ca", "-I", "id", "-n", "root", "user.pub"]
    subprocess.run(sign, check=True, cwd=tmp_path)
    assert "certificates are not accepted" in refusal((tmp_path / "user-cert.pub").read_bytes())
    assert "too short" in refusal((tmp_path / "short.pub").read_bytes())


def test_ssh_keygen_accepts_what_we_accept(tmp_path: Path) -> None:
    """The structures that the parser checks are OpenSSH's, which reads the security keys made for these tests."""
    path = tmp_path / "keys.pub"
    path.write_bytes(SK_ED25519_LINE + b"\n" + rsa(2048) + b"\n" + ed25519(5) + b"\n")
    shown = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout
    ours = [key.fingerprint for key in parse(path.read_bytes(), SOURCE, allow_options=False).accepted]
    assert [row.split()[1] for row in shown.splitlines()] == ours

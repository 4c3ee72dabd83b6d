"""core.access.randomart: the same picture of a key as OpenSSH's."""

import subprocess
from pathlib import Path

import pytest

from pyssh_gateway.core.access.authorized_keys import parse
from pyssh_gateway.core.access.key_report import size_of
from pyssh_gateway.core.access.randomart import HEIGHT, WIDTH, randomart, short_name
from tests.support.key_lines import SK_ED25519_LINE


def made(kind: str, bits: str, directory: Path) -> bytes:
    """A public key line made by ssh-keygen."""
    command = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", str(directory / "key")]
    subprocess.run(command, check=True, timeout=60)
    return (directory / "key.pub").read_bytes()


def same_as_openssh(line: bytes, directory: Path) -> None:
    """Compare the picture with that of ssh-keygen."""
    (key,) = parse(line, "", allow_options=False).accepted
    (directory / "shown.pub").write_bytes(line + b"\n")
    command = ["ssh-keygen", "-lv", "-f", str(directory / "shown.pub")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines()
    bits = size_of(key.key_type, key.blob)
    assert shown[0].split()[:2] == [str(bits), key.fingerprint]
    assert shown[0].endswith(f"({short_name(key.key_type)})")
    assert list(randomart(key.fingerprint, key.key_type, bits)) == shown[1:]


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048"), ("rsa", "3072")],
)
def test_is_what_openssh_shows(tmp_path: Path, kind: str, bits: str) -> None:
    """Protects people who compare pictures: ours and ssh-keygen's are equal, including the title."""
    same_as_openssh(made(kind, bits, tmp_path), tmp_path)


def test_is_what_openssh_shows_of_security_keys(tmp_path: Path) -> None:
    """Security keys, which ssh-keygen makes only with a device, have ssh-keygen's picture, too."""
    same_as_openssh(SK_ED25519_LINE, tmp_path)


def test_always_fits_its_frame() -> None:
    """Protects the columns: with any name of a key type, all lines are equally wide."""
    lines = randomart("SHA256:" + "A" * 43, "a-type-with-a-very-long-name@example.com", 256)
    assert {len(line) for line in lines} == {WIDTH + 2}
    assert len(lines) == HEIGHT + 2
    assert lines[0] == "+" + "-" * WIDTH + "+"


def test_shows_walks_into_corners() -> None:
    """Protects the edges: a walk in one direction ends in the corner, in the square that was visited most."""
    lines = randomart("SHA256:" + "A" * 43, "ssh-ed25519", 256)
    assert lines[1].startswith("|E")
    assert "S" in lines[5]

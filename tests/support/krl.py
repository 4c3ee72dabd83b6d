"""Key revocation lists: from ssh-keygen, and invalid ones, put together section by section."""

import subprocess
from pathlib import Path

from tests.support.certificates import keygen
from tests.support.key_lines import string
from tests.support.waiting import PATIENCE

HEADER = b"SSHKRL\n\0" + (1).to_bytes(4, "big")


def make(path: Path, *given: Path, authority: Path | None = None, version: int = 1) -> Path:
    """A KRL made from files with specifications, keys and certificates; certificates are those of `authority`."""
    keygen("-k", "-f", path, "-z", str(version), *(("-s", authority) if authority else ()), *given)
    return path


def is_revoked(path: Path, key: Path) -> bool:
    """Whether ssh-keygen finds the key or certificate in a file revoked."""
    command = ["ssh-keygen", "-Q", "-f", str(path), str(key)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == (1 if "REVOKED" in done.stdout else 0), done
    return done.returncode == 1


def number(value: int) -> bytes:
    """A uint64."""
    return value.to_bytes(8, "big")


def krl(*sections: bytes, version: int = 1) -> bytes:
    """A complete list."""
    return HEADER + number(version) + number(0) + number(0) + string(b"") + string(b"a comment") + b"".join(sections)


def section(kind: int, *contents: bytes) -> bytes:
    """A section, or a subsection of the one about certificates."""
    return bytes([kind]) + string(b"".join(contents))


def certificates(*sections: bytes, authority: bytes = b"") -> bytes:
    """The section about certificates of an authority, or of any authority."""
    return section(1, string(authority), string(b""), *sections)

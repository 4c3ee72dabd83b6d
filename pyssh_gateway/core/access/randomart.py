"""A fingerprint as a picture: people recognise it more easily than 43 characters.

The same as OpenSSH's (fingerprint_randomart in sshkey.c): a bishop walks over a board, two bits of the hash for each
move, and squares show how often it was there.
"""

import binascii

WIDTH, HEIGHT = 17, 9

_SYMBOLS = " .o+=*BOX@%&#/^SE"
"""How often the bishop was on a square; the last two are where it started and where it ended."""

_START, _END = len(_SYMBOLS) - 2, len(_SYMBOLS) - 1
_MOST = _START - 1

_NAMES = {
    "ssh-ed25519": "ED25519",
    "ssh-rsa": "RSA",
    "ecdsa-sha2-nistp256": "ECDSA",
    "ecdsa-sha2-nistp384": "ECDSA",
    "ecdsa-sha2-nistp521": "ECDSA",
    "sk-ssh-ed25519@openssh.com": "ED25519-SK",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK",
}
"""Key types as ssh-keygen -l names them."""


def randomart(fingerprint: str, key_type: str, bits: int) -> tuple[str, ...]:
    """The eleven lines for a key of that type and size; `fingerprint` is `SHA256:` and base64 without padding."""
    algorithm, _, encoded = fingerprint.partition(":")
    title = f"[{short_name(key_type)} {bits}]"
    return (
        _border(title if len(title) <= WIDTH else ""),
        *(f"|{row}|" for row in _board(binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4)))),
        _border(f"[{algorithm}]"),
    )


def short_name(key_type: str) -> str:
    """The key type as ssh-keygen -l names it."""
    return _NAMES.get(key_type, key_type)


def _board(digest: bytes) -> list[str]:
    visits = [[0] * WIDTH for _ in range(HEIGHT)]
    x, y = WIDTH // 2, HEIGHT // 2
    for byte in digest:
        for shift in (0, 2, 4, 6):
            x = min(max(x + (1 if byte >> shift & 1 else -1), 0), WIDTH - 1)
            y = min(max(y + (1 if byte >> shift & 2 else -1), 0), HEIGHT - 1)
            visits[y][x] = min(visits[y][x] + 1, _MOST)
    visits[HEIGHT // 2][WIDTH // 2] = _START
    visits[y][x] = _END
    return ["".join(_SYMBOLS[count] for count in row) for row in visits]


def _border(title: str) -> str:
    before = (WIDTH - len(title)) // 2
    return "+" + "-" * before + title + "-" * (WIDTH - len(title) - before) + "+"

"""What a client understands, by its identification line (RFC 4253 section 4.2). Follows OpenSSH's compat.c."""

_PREFIX = b"SSH-2.0-"

_BEFORE_EOW = (b"OpenSSH_2", b"OpenSSH_3", b"OpenSSH_4")
"""Those that compat.c gives no SSH_NEW_OPENSSH."""


def takes_eow(identification: bytes) -> bool:
    """Whether the client may be sent `eow@openssh.com` (OpenSSH's PROTOCOL section 2.1).

    Some others end the connection for a request that they don't know, against RFC 4254 section 5.4.
    """
    software = identification.removeprefix(_PREFIX)
    return software.startswith(b"OpenSSH") and not software.startswith(_BEFORE_EOW)

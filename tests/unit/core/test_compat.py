"""What clients understand, by how they name themselves."""

import pytest

from pyssh_gateway.core.compat import takes_eow


@pytest.mark.parametrize(
    ("software", "takes"),
    [
        (b"OpenSSH_5.1", True),
        (b"OpenSSH_9.2p1 Debian-2+deb12u3", True),
        (b"OpenSSH_10.0", True),
        (b"OpenSSH_for_Windows_9.5", True),
        (b"OpenSSH_4.9", False),
        (b"OpenSSH_3.9p1", False),
        (b"OpenSSH_2.9.9p2", False),
        (b"PuTTY_Release_0.83", False),
        (b"AsyncSSH_2.24.1", False),
        (b"not_OpenSSH_9.9", False),
        (b"", False),
    ],
)
def test_end_of_write_is_for_openssh(software: bytes, takes: bool) -> None:
    """Protects clients that end the connection for a request that they don't know."""
    assert takes_eow(b"SSH-2.0-" + software) is takes

"""HASSH, against values that its authors and Zeek's analyser have published."""

import pytest

from pyssh_gateway.core.strangers.hassh import Hassh, hassh

CYBERDUCK = (
    (
        "curve25519-sha256@libssh.org,diffie-hellman-group-exchange-sha256,ecdh-sha2-nistp521,ecdh-sha2-nistp384,"
        "ecdh-sha2-nistp256,diffie-hellman-group-exchange-sha1,diffie-hellman-group1-sha1,diffie-hellman-group14-sha1,"
        "diffie-hellman-group14-sha256,diffie-hellman-group15-sha512,diffie-hellman-group16-sha512,"
        "diffie-hellman-group17-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256@ssh.com,"
        "diffie-hellman-group15-sha256,diffie-hellman-group15-sha256@ssh.com,diffie-hellman-group15-sha384@ssh.com,"
        "diffie-hellman-group16-sha256,diffie-hellman-group16-sha384@ssh.com,diffie-hellman-group16-sha512@ssh.com,"
        "diffie-hellman-group18-sha512@ssh.com"
    ),
    (
        "aes128-cbc,aes128-ctr,aes192-cbc,aes192-ctr,aes256-cbc,aes256-ctr,blowfish-cbc,blowfish-ctr,cast128-cbc,"
        "cast128-ctr,idea-cbc,idea-ctr,serpent128-cbc,serpent128-ctr,serpent192-cbc,serpent192-ctr,serpent256-cbc,"
        "serpent256-ctr,3des-cbc,3des-ctr,twofish128-cbc,twofish128-ctr,twofish192-cbc,twofish192-ctr,twofish256-cbc,"
        "twofish256-ctr,twofish-cbc,arcfour,arcfour128,arcfour256"
    ),
    "hmac-sha1,hmac-sha1-96,hmac-md5,hmac-md5-96,hmac-sha2-256,hmac-sha2-512",
    "zlib@openssh.com,zlib,none",
)
OPENSSH_7_7 = (
    (
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
        "diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,"
        "diffie-hellman-group-exchange-sha1,diffie-hellman-group14-sha256,diffie-hellman-group14-sha1,ext-info-c"
    ),
    "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    (
        "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"
        "hmac-sha1-etm@openssh.com,umac-64@openssh.com,umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1"
    ),
    "none,zlib@openssh.com,zlib",
)


def offer(to_server: tuple[str, ...], to_client: tuple[str, ...]) -> bytes:
    """A KEXINIT without its number, with the key exchanges of the first."""
    lists = [to_server[0], "ssh-ed25519"]
    for ours, theirs in zip(to_server[1:], to_client[1:], strict=True):
        lists += [ours, theirs]
    return bytes(16) + b"".join(len(names).to_bytes(4, "big") + names.encode() for names in (*lists, "", ""))


@pytest.mark.parametrize(
    ("lists", "published"),
    [(CYBERDUCK, "8a8ae540028bf433cd68356c1b9e8d5b"), (OPENSSH_7_7, "06046964c022c6407d15a27b12a6a4fb")],
)
def test_published_fingerprints(lists: tuple[str, ...], published: str) -> None:
    """A client's is made of the lists to the server, a server's of those back."""
    nothing = ("", "", "", "")
    assert hassh(offer(lists, nothing), b"").client == published
    assert hassh(b"", offer((lists[0], *nothing[1:]), lists)).server == published


def test_a_malformed_offer_has_none() -> None:
    """Protects preauth: a message that is cut off anywhere gives an empty text, and no error."""
    whole = offer(CYBERDUCK, OPENSSH_7_7)
    assert hassh(whole, whole).client
    for length in range(0, len(whole) - 9, 50):
        assert hassh(whole[:length], whole[:length]) == Hassh("", "")

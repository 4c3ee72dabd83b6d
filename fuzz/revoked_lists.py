"""Fuzz the parser of revocation lists."""

import atheris

with atheris.instrument_imports(include=["pyssh_gateway.core"]):
    from fuzz import revocation_properties

from fuzz.running import run
from tests.support.key_lines import ecdsa, ed25519, mpint, rsa, string
from tests.support.krl import certificates, krl, number, section

_KEY = string(b"ssh-ed25519") + string(b"\x05" * 32)

_SEEDS = (
    krl(),
    krl(section(2, string(_KEY)), section(3, string(b"1" * 20)), section(5, string(b"2" * 32))),
    krl(certificates(section(0x20, number(3), number(9)), section(0x21, number(4), number(8)), authority=_KEY)),
    krl(certificates(section(0x22, number(100), mpint(0b101)), section(0x23, string(b"amos")))),
    krl(section(255, string(b"x@example.com"), b"\0", string(b"")), section(4, b"key") + string(b"signature")),
    b"# a comment\n" + ed25519() + b" amos\n" + rsa(2048) + b"\n" + ecdsa("nistp256", 65),
)

_WORDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "-cert-v01@openssh.com", "AAAA", "serial:", "SSHKRL")


if __name__ == "__main__":
    run(revocation_properties.check_list, _SEEDS, _WORDS)

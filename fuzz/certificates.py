"""Fuzz the parser of certificates."""

import atheris

with atheris.instrument_imports(include=["pyssh_gateway.core"]):
    from fuzz import certificate_properties

from fuzz.running import run
from tests.support.certificates import made_up, option_list
from tests.support.key_lines import mpint, string

_RSA = mpint(65537) + mpint((1 << 2047) | 1)
_POINT = string(b"nistp256") + string(b"\x04" * 65)

_SEEDS = (
    made_up(),
    made_up(kind=2, principals=string(b"amos") + string(b"eve"), valid=(0, 1)),
    made_up(critical=option_list((b"force-command", string(b"ls")), (b"source-address", string(b"192.0.2.0/24,::1")))),
    made_up(extensions=option_list((b"no-touch-required", b""), (b"permit-X11-forwarding", b""), (b"permit-pty", b""))),
    made_up(b"ssh-rsa-cert-v01@openssh.com", key=_RSA, authority=string(b"ssh-rsa") + _RSA),
    made_up(b"ecdsa-sha2-nistp256-cert-v01@openssh.com", key=_POINT),
    made_up(b"sk-ssh-ed25519-cert-v01@openssh.com", key=string(b"\x05" * 32) + string(b"ssh:")),
    made_up(b"sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", key=_POINT + string(b"ssh:")),
)

_WORDS = (
    *("force-command", "source-address", "verify-required", "no-touch-required", "permit-pty", "permit-user-rc"),
    *("permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding", "amos", "0.0.0.0/0", "::/0"),
    *("ssh-ed25519", "ssh-rsa", "rsa-sha2-256", "ecdsa-sha2-nistp256", "nistp256", "-cert-v01@openssh.com"),
)


if __name__ == "__main__":
    run(certificate_properties.check_certificate, _SEEDS, _WORDS)

"""Fuzz the parsers of key files."""

from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["pyssh_gateway.core"]):
    from fuzz import key_properties

from fuzz.running import run

_TARGETS: dict[int, Callable[[bytes], None]] = {
    ord("k"): key_properties.check_keys,
    ord("o"): key_properties.check_options,
    ord("p"): key_properties.check_patterns,
}
"""The first byte of the input selects one of them; the target gets the rest."""

_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + b"A" * 43
_SECURITY_KEY = (
    b"sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAI" + b"A" * 43 + b"AAAAEc3NoOg=="
)

_SEEDS = (
    b"k" + _KEY + b" a comment\n# another\n" + _SECURITY_KEY,
    b'krestrict,pty,command="echo \\"ssh-ed25519\\"" ' + _KEY + b"\n" + _KEY,
    b'kcert-authority,principals="a,b",no-touch-required ' + _KEY,
    b"kverify-required\t" + _SECURITY_KEY,
    b'ofrom="10.0.0.0/8,!10.1.*,::1",environment="A=b",environment="A=c"',
    b'opermitopen="[::1]:80",permitopen="a:*",permitlisten="8080",expiry-time="20300101",expiry-time="203001011200Z"',
    b"orestrict,no-user-rc,X11-forwarding,agent-forwarding,port-forwarding",
    b'otunnel="any",touch-required,no-verify-required',
    b"p10.1.2.3 10.0.0.0/8,!10.1.*",
    b"p::ffff:1.2.3.4 !1.2.3.4,*",
    b"pfe80::1%eth0 fe80::/10,*.example.org",
)

_WORDS = (
    *("restrict", "cert-authority", "no-", "pty", "port-forwarding", "agent-forwarding", "x11-forwarding", "user-rc"),
    *("touch-required", "verify-required", "command=", "environment=", "expiry-time=", "from=", "permitlisten="),
    *("permitopen=", "principals=", "tunnel=", "ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519@openssh.com", "LD_", "any"),
    *("::ffff:", "0.0.0.0/0", "::/0", "20300101", "Z", "UTC", "[::1]:", ":*"),
)


def _one_input(data: bytes) -> None:
    target = _TARGETS.get(data[0]) if data else None
    if target is not None:
        target(data[1:])


if __name__ == "__main__":
    run(_one_input, _SEEDS, _WORDS)

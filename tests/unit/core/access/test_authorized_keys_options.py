"""core.access.authorized_keys: lines with options, and files of certificate authorities."""

import pytest

from pyssh_gateway.core.access.authorized_keys import parse
from pyssh_gateway.core.access.key_options import NO_OPTIONS, KeyOptions
from tests.support.key_lines import (
    SK_ECDSA_LINE,
    SK_ED25519_LINE,
    SOURCE,
    accepted,
    ed25519,
    line,
    mpint,
    parse_one,
    refusal,
    rsa,
    string,
)

OPTIONS = {
    b"restrict": KeyOptions(
        pty=False, port_forwarding=False, agent_forwarding=False, x11_forwarding=False, user_rc=False
    ),
    b"no-pty,no-agent-forwarding": KeyOptions(pty=False, agent_forwarding=False),
    b'command="echo \\"ssh-ed25519 AAAA\\"\t# x",no-pty': KeyOptions(
        command=b'echo "ssh-ed25519 AAAA"\t# x', pty=False
    ),
    b'from="10.0.0.0/8,!10.1.0.0/16"': KeyOptions(source=("10.0.0.0/8", "!10.1.0.0/16")),
    b'environment="TOKEN=hunter2"': KeyOptions(environment=((b"TOKEN", b"hunter2"),)),
    b"cert-authority": KeyOptions(cert_authority=True),
    b'cert-authority,principals="a,b"': KeyOptions(cert_authority=True, principals=("a", "b")),
    b"cert-authority,verify-required": KeyOptions(cert_authority=True, verify_required=True),
    b'command="back\\\\slash"': KeyOptions(command=b"back\\\\slash"),
    b"no-touch-required": KeyOptions(touch_required=False),
    b"no-verify-required": NO_OPTIONS,
}


@pytest.mark.parametrize("options", OPTIONS)
def test_takes_options_from_those_who_may_set_some(options: bytes) -> None:
    """A restricted key is accepted with its restrictions, whatever blanks and keys are quoted in them."""
    text = options + b" " + ed25519() + b" somebody"
    for spelling in (text, text.replace(b" ssh-", b"\t ssh-"), text.replace(b" somebody", b" \tsomebody\t")):
        (key,) = accepted(spelling)
        assert key.options == OPTIONS[options]
        assert key.comment == "somebody"
        assert key.fingerprint == parse_one(ed25519()).accepted[0].fingerprint


@pytest.mark.parametrize("options", [*OPTIONS, b"unknown", b'from="'])
def test_takes_no_options_from_others(options: bytes) -> None:
    """Sources without the right to set options set none, and a key with options from them is refused."""
    text = options + b" " + ed25519() + b" somebody"
    expected = "not a public key" if options == b'from="' else "options are not allowed in keys from github:example"
    assert refusal(text) == f"line 1: {expected}"
    assert refusal(text.replace(b" ssh-", b"\tssh-")) == f"line 1: {expected}"


@pytest.mark.parametrize(
    ("options", "key", "reason"),
    [
        (b"unknown", ed25519(), "options: unknown option unknown"),
        (b"x\x1b[31m", ed25519(), "options: unknown option x"),
        (b"back\\slash", ed25519(), "options: unknown option back"),
        (b'command="a",command="a"', ed25519(), "options: there are two command="),
        (
            b'command="internal-sftp -u 8"',
            ed25519(),
            "options: command= can't be obeyed: internal-sftp -u: '8' is no mask of octal digits up to 777",
        ),
        (b'from="10.0.0.1/8"', ed25519(), 'options: from=: "10.0.0.1/8" has bits set beyond its mask'),
        (b'principals="a"', ed25519(), "options: principals= goes with cert-authority"),
        (b"verify-required", ed25519(), "options: verify-required is for security keys, and ssh-ed25519 keys are none"),
        (b"restrict", rsa(1024), "1024 bits is too short"),
        (b"restrict", ed25519()[:-1], "not valid base64"),
        (b"restrict", line("ssh-dss", mpint(5)), "DSA keys are too weak"),
        (b"restrict", line("ssh-ed25519-cert-v01@openssh.com", string(b"x")), "certificates are not accepted"),
        (b"restrict restrict", ed25519(), "not a public key"),
        (b"restrict, pty", ed25519(), "not a public key"),
        (b'environment="TOKEN=hunter2" x', ed25519(), "not a public key"),
    ],
)
def test_refuses_a_line_by_its_options(options: bytes, key: bytes, reason: str) -> None:
    """A line whose options are not understood, or do not fit its key, is refused alone."""
    text = options + b" " + key
    assert reason in refusal(text, allow_options=True)
    assert refusal(text, allow_options=True).isprintable()
    parsed = parse(ed25519(2) + b"\n" + text + b"\nrestrict " + ed25519(3), SOURCE, allow_options=True)
    assert [key.options.pty for key in parsed.accepted] == [True, False]
    assert parsed.refused_count == 1


@pytest.mark.parametrize("options", [b'command="never closed', b'"', b"\\"])
def test_takes_broken_options_for_no_key(options: bytes) -> None:
    """A line with a quotation mark that is never closed is refused, quickly, together with the key after it."""
    assert refusal(options + b'"\\"' * 1000 + b' " ' + ed25519(), allow_options=True)
    assert refusal(options + b'\\"' * 5000, allow_options=True) == "line 1: not a public key"


@pytest.mark.parametrize("key", [SK_ED25519_LINE, SK_ECDSA_LINE], ids=["ed25519", "ecdsa"])
def test_verification_may_be_required_of_security_keys(key: bytes) -> None:
    """With verify-required, a security key is accepted only with a PIN."""
    (accepted_key,) = accepted(b"verify-required " + key)
    assert accepted_key.options == KeyOptions(verify_required=True)


def test_every_key_of_a_file_of_authorities_is_one() -> None:
    """In `ca:` files every key is an authority, with or without the option, and none of them logs in itself."""
    text = b"\n".join(
        (
            ed25519(1),
            b"cert-authority " + ed25519(2),
            b'restrict,principals="a" ' + ed25519(3),
            b"verify-required " + rsa(2048),
        )
    )
    keys = accepted(text, authorities=True)
    assert [key.options.cert_authority for key in keys] == [True] * 4
    assert (keys[2].options.pty, keys[2].options.principals) == (False, ("a",))
    assert parse(ed25519(), SOURCE, allow_options=False, authorities=True).accepted[0].options.cert_authority
    certificate = line("ssh-ed25519-cert-v01@openssh.com", string(b"x"))
    assert parse(certificate, SOURCE, allow_options=True, authorities=True).accepted == ()


def test_keeps_a_key_with_each_of_its_options() -> None:
    """A key is kept once with each of its conditions, as the first line that applies to a client counts."""
    lines = (
        b"",
        b'from="10.0.0.1" ',
        b'from="10.0.0.2" ',
        b"",
        b"restrict,pty,restrict ",
        b"restrict ",
        b'from="10.0.0.1" ',
    )
    keys = accepted(b"\n".join(options + ed25519() + b" %d" % number for number, options in enumerate(lines)))
    assert [key.comment for key in keys] == ["0", "1", "2", "4"]
    assert len({key.blob for key in keys}) == 1
    assert [key.options.source for key in keys] == [(), ("10.0.0.1",), ("10.0.0.2",), ()]

"""Which certificates are accepted, as a table; nothing is signed, as the decision comes before the verification."""

import pytest
from msgspec.structs import replace

from pyssh_gateway.core.access.authorized_keys import AccountKeys, KeySnapshot, fingerprint
from pyssh_gateway.core.access.certificates import parse
from pyssh_gateway.core.access.denials import Deny
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import Accept, Attempt, Proof, decide
from pyssh_gateway.events import Identity
from tests.support.attempts import (
    AUTHORITY,
    CA,
    ED,
    EVERYTHING,
    FORCED,
    HOUR,
    NEARBY,
    NOW,
    PEER,
    RSA,
    VERIFY,
    accepted,
    show,
)
from tests.support.certificates import made_up, option_list
from tests.support.denials import deny
from tests.support.key_lines import SK_ED25519, string
from tests.support.snapshots import account, line, snapshot, with_account

NOTHING = KeyOptions(pty=False, port_forwarding=False, agent_forwarding=False, x11_forwarding=False, user_rc=False)


@pytest.mark.parametrize("proof", [None, Proof("ssh-ed25519")])
def test_a_certificate_of_a_trusted_authority_gets_in(proof: Proof | None) -> None:
    """The decision returns what to verify: the certified key for the request, the certificate for the authority."""
    authority = line(CA, AUTHORITY)
    certificate = made_up(extensions=EVERYTHING)
    assert show(certificate, snapshot(authority), proof=proof) == Accept(
        key=authority,
        options=AUTHORITY,
        identity=Identity("ca:example", None, fingerprint(ED)),
        signer=ED,
        certificate=parse(certificate),
    )


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (made_up(kind=2), "this certificate is a host's, not a user's"),
        (made_up(principals=b""), "the certificate names no principals"),
        (made_up(principals=string(b"eve")), "the certificate names none of amos as a principal"),
        (made_up(principals=string(b"")), "the certificate names none of amos as a principal"),
        (made_up(principals=string(b"amos\0")), "the certificate names none of amos as a principal"),
        (made_up(principals=string(b"amos,eve")), "the certificate names none of amos as a principal"),
        (made_up(principals=string(b"Amos") + string(b"*")), "the certificate names none of amos as a principal"),
        (made_up(valid=(NOW + 1, NOW + HOUR)), "the certificate is not yet valid, for another 1s"),
        (made_up(valid=(2**64 - 1, 2**64 - 1)), "the certificate is not yet valid, for another 213503982314925d8h46m"),
        (made_up(valid=(NOW - HOUR, NOW)), "the certificate expired 0s ago"),
        (made_up(valid=(0, NOW - HOUR)), "the certificate expired 1h ago"),
        (made_up(valid=(NOW + HOUR, NOW - HOUR)), "the certificate is not yet valid, for another 1h"),
        (
            made_up(critical=option_list((b"no-such@example.com", b""))),
            "this certificate can't be used: its critical option 'no-such@example.com' is not known here",
        ),
        (
            made_up(critical=option_list((b"permit-pty", b""))),
            "this certificate can't be used: its critical option 'permit-pty' is not known here",
        ),
        (
            made_up(critical=option_list((b"verify-required", b"\0"))),
            "this certificate can't be used: its option 'verify-required' has a value, which it can't have",
        ),
        (
            made_up(extensions=option_list((b"permit-pty", string(b"")))),
            "this certificate can't be used: its option 'permit-pty' has a value, which it can't have",
        ),
        (
            made_up(critical=option_list((b"force-command", b"backup"))),
            "this certificate can't be used: it is cut off",
        ),
        (
            made_up(critical=option_list((b"force-command", string(b"backup") + b"\0"))),
            "this certificate can't be used: it has bytes too many",
        ),
        (
            made_up(critical=option_list((b"force-command", string(b"a\0b")))),
            "this certificate can't be used: its option 'force-command' has a NUL in it",
        ),
        (
            made_up(critical=option_list((b"force-command", string(b"internal-sftp -Z")))),
            "this certificate can't be used: its force-command can't be obeyed: internal-sftp has no option '-Z' here",
        ),
        (made_up(after=b"\0"), "this certificate can't be used: it has bytes too many"),
        (
            made_up(signature=string(b"ssh-rsa") + string(b"\0")),
            "the certificate is signed with ssh-rsa, which is not accepted of a ssh-ed25519 authority",
        ),
        (
            made_up(authority=RSA, signature=string(b"ssh-rsa") + string(b"\0")),
            "the certificate is signed with ssh-rsa, which is not accepted of a ssh-rsa authority",
        ),
        (
            made_up(signature=b"\0"),
            "the certificate is signed with , which is not accepted of a ssh-ed25519 authority",
        ),
        (made_up(critical=VERIFY), "a ssh-ed25519 key can't verify its user (verify-required)"),
    ],
)
def test_a_certificate_that_is_not_good_stays_out(certificate: bytes, reason: str) -> None:
    """A faulty certificate is denied whoever signed it, finally unless the reason depends on the account's keys."""
    of_the_account = reason.startswith(("the certificate names none", "a ssh-ed25519 key can't"))
    assert show(certificate) == deny(reason, final=not of_the_account)


@pytest.mark.parametrize(
    "networks",
    [
        "",
        ",",
        "*",
        "a",
        "10.0.0.0/",
        "/8",
        "10.0.0.0/8,",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/٨",
        " 10.0.0.0/8",
        "10.0.0.0/8 ",
        "!10.0.0.0/8",
        "192.0.2.1,junk",
        "host.example",
        "fe80::1%lo",
        "\xff",
    ],
)
def test_addresses_are_addresses(networks: str) -> None:
    """A certificate's list has addresses and networks only; entries that sshd calls invalid make the list invalid."""
    critical = option_list((b"source-address", string(networks.encode())))
    reason = "this certificate can't be used: its source-address is not a list of addresses and networks"
    assert show(made_up(critical=critical)) == deny(reason, final=True)


def test_as_many_addresses_as_anybody_needs() -> None:
    """The list is limited, since it is read for any client."""
    critical = [option_list((b"source-address", string(b",".join([b"192.0.2.1"] * count)))) for count in (64, 65)]
    accepted(show(made_up(critical=critical[0])))
    reason = "this certificate can't be used: its source-address has more than 64 entries"
    assert show(made_up(critical=critical[1])) == deny(reason, final=True)


@pytest.mark.parametrize(
    ("peer", "is_near"),
    [("192.0.2.255", True), ("10.1.2.3", True), ("10.1.2.4", False), ("2001:db8::1", False), ("", False)],
)
def test_a_certificate_may_be_for_some_addresses_only(peer: str, is_near: bool) -> None:
    """The certificate's own list and the authority's both apply."""
    outcome = show(made_up(critical=NEARBY), peer=peer)
    expected = deny(f"the certificate may not be used from {peer} (source-address)")
    assert isinstance(outcome, Accept) if is_near else outcome == expected
    elsewhere = snapshot(line(CA, KeyOptions(cert_authority=True, source=("10.1.2.4",))))
    assert isinstance(show(made_up(critical=NEARBY), elsewhere, peer=peer), Deny)


def test_ipv6_networks_count_too() -> None:
    """IPv6 networks apply, in CIDR form, as in PROTOCOL.certkeys."""
    certificate = made_up(critical=option_list((b"source-address", string(b"2001:DB8::/32"))))
    accepted(show(certificate, peer="2001:db8:1::2"))
    assert isinstance(show(certificate, peer="2001:db9::1"), Deny)


# -- the authority's line ----------------------------------------------------------------------------------------


def test_an_authority_that_is_not_the_accounts_is_unknown() -> None:
    """An unknown authority may be added at any moment, so the denial is not final; it names an outage."""
    reason = "the certificate's authority is not known"
    other = line(ED, AUTHORITY)
    assert show(made_up(), snapshot(other)) == deny(reason)
    failing = with_account(account(other, failures=("ca:/keys: gone",)))
    assert show(made_up(), failing) == deny(f"{reason}; backend error: ca:/keys: gone")
    assert show(made_up(), KeySnapshot({"eve": account(line(CA, AUTHORITY))})) == deny("unknown account")


def test_only_authorities_certify() -> None:
    """A personal key certifies nobody else, and the certified key without its certificate is unknown."""
    assert show(made_up(), snapshot(line(CA))) == deny("the certificate's authority is not known")
    confused = with_account(AccountKeys(authorities={CA: (line(CA),)}))
    reason = "the key that signed the certificate is not an authority's (cert-authority)"
    assert show(made_up(), confused) == deny(reason)
    plain = decide(Attempt(b"amos", "ssh-ed25519", ED, None, PEER), snapshot(line(CA, AUTHORITY)), NOW)
    assert plain == deny("key is not known")


@pytest.mark.parametrize(
    ("wanted", "named", "is_in"),
    [
        (("web", "db"), (b"db",), True),
        (("web", "db"), (b"mail", b"web"), True),
        (("web", "db"), (b"amos",), False),
        (("web",), (b"web,db",), False),
        (("web,db",), (b"web",), False),
        (("amos",), (b"amos",), True),
    ],
)
def test_principals_of_the_line_stand_for_the_account(
    wanted: tuple[str, ...], named: tuple[bytes, ...], is_in: bool
) -> None:
    """With principals=, the certificate must have one of these names, and the account's own name does not count."""
    keys = snapshot(line(CA, KeyOptions(cert_authority=True, principals=wanted)))
    outcome = show(made_up(principals=b"".join(map(string, named))), keys)
    expected = deny(f"the certificate names none of {', '.join(wanted)} as a principal")
    assert isinstance(outcome, Accept) if is_in else outcome == expected


@pytest.mark.parametrize(
    ("lines", "certificate", "expected"),
    [
        (None, b"", None),
        (b"backup", b"", b"backup"),
        (None, FORCED, b"backup"),
        (b"backup", FORCED, b"backup"),
        (b"", FORCED, "refused"),
        (b"backup ", FORCED, "refused"),
    ],
)
def test_a_forced_command_is_forced(lines: bytes | None, certificate: bytes, expected: bytes | str | None) -> None:
    """A command that the line or the certificate forces is run; with two different ones, the login is denied."""
    keys = snapshot(line(CA, KeyOptions(cert_authority=True, command=lines)))
    outcome = show(made_up(critical=certificate), keys)
    if expected == "refused":
        assert outcome == deny("the certificate's forced command is not the authority's")
    else:
        assert accepted(outcome).options.command == expected


@pytest.mark.parametrize(
    ("of_line", "extensions", "expected"),
    [
        (KeyOptions(), EVERYTHING, KeyOptions()),
        (KeyOptions(), b"", NOTHING),
        (NOTHING, EVERYTHING, NOTHING),
        (
            KeyOptions(pty=False),
            option_list((b"no-such@example.com", b"\1"), (b"permit-port-forwarding", b""), (b"permit-pty", b"")),
            KeyOptions(pty=False, agent_forwarding=False, x11_forwarding=False, user_rc=False),
        ),
        (
            KeyOptions(),
            option_list((b"permit-X11-forwarding", b""), (b"permit-agent-forwarding", b"")),
            KeyOptions(pty=False, port_forwarding=False, user_rc=False),
        ),
        (
            KeyOptions(
                environment=((b"A", b"B"),), permit_open=("a:1",), permit_listen=("*:2",), expires=NOW, source=(PEER,)
            ),
            EVERYTHING,
            KeyOptions(
                environment=((b"A", b"B"),), permit_open=("a:1",), permit_listen=("*:2",), expires=NOW, source=(PEER,)
            ),
        ),
        (KeyOptions(touch_required=False), EVERYTHING, KeyOptions()),
        (KeyOptions(), option_list((b"no-touch-required", b"")), NOTHING),
    ],
)
def test_what_both_permit_is_permitted(of_line: KeyOptions, extensions: bytes, expected: KeyOptions) -> None:
    """A right needs both permissions, unknown extensions are ignored, and all other options are the line's."""
    keys = snapshot(line(CA, replace(of_line, cert_authority=True)))
    outcome = show(made_up(critical=NEARBY, extensions=extensions), keys)
    assert accepted(outcome).options == replace(expected, cert_authority=True)


def test_the_next_line_of_the_authority_may_let_in() -> None:
    """Each line of an authority has its own conditions, and the first whose conditions hold lets in."""
    web = line(CA, KeyOptions(cert_authority=True, principals=("web",)))
    gone = line(CA, KeyOptions(cert_authority=True, expires=NOW - 1))
    good = line(CA, AUTHORITY)
    assert accepted(show(made_up(), snapshot(web, gone, good, web))).key is good
    assert show(made_up(), snapshot(web, gone)) == deny("the certificate names none of web as a principal")


def test_a_stale_authority_lets_nobody_in() -> None:
    """An authority whose source was not confirmed for max_stale lets nobody in, as with keys."""
    keys = snapshot(line(CA, AUTHORITY), fetched={"github:example": NOW - 3 * HOUR}, max_stale=HOUR)
    reason = "the keys of github:example were last confirmed 3h ago, more than max_stale (1h)"
    assert show(made_up(), keys) == deny(reason)


@pytest.mark.parametrize(
    ("types", "only", "expected"),
    [
        ({"ssh-ed25519"}, {fingerprint(ED)}, ""),
        ({SK_ED25519}, set(), "key_types of this login does not have ssh-ed25519"),
        (set(), {fingerprint(CA)}, "only_fingerprints of this login does not have this key"),
    ],
)
def test_a_login_narrows_certificates_by_the_key_inside(types: set[str], only: set[str], expected: str) -> None:
    """A login's key_types and only_fingerprints apply to the certified key, not to the authority or the certificate."""
    keys = with_account(account(line(CA, AUTHORITY), types=frozenset(types), only=frozenset(only)))
    outcome = show(made_up(), keys)
    assert outcome == deny(expected) if expected else isinstance(outcome, Accept)

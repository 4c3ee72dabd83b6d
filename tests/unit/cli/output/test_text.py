"""cli.output.text: keys, sources and times as people read them."""

import msgspec
import pytest

from pyssh_gateway.cli.output import text
from pyssh_gateway.cli.output.printing import visible
from pyssh_gateway.core.control import (
    HostCertificateReport,
    HostKeyReport,
    KeyReport,
    KeysReply,
    LoginReport,
    RevokedListReport,
    SourceReport,
    Verdict,
)
from pyssh_gateway.events import Identity

SHA = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"
KEY = KeyReport(SHA, "ssh-rsa", 3072, "", "github:example", None, "github:example", "", False, False)
SOURCE = SourceReport("github:example", ("amos",), 2, 0, "fetched", 5.0, "", None, None, stale=False, next_look=None)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0s"), (59.9, "59s"), (61, "1m"), (3599, "59m"), (3661, "1h1m"), (90_000, "1d1h"), (100_000, "1d3h")],
)
def test_times_are_as_exact_as_people_need(seconds: float, shown: str) -> None:
    """Protects the columns from needless precision: a time that was days ago has no seconds."""
    assert text.time_span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_have_units(count: int, shown: str) -> None:
    """Protects the columns from long numbers: sizes have units."""
    assert text.size(count) == shown


def test_a_key_is_told_with_all_that_matters() -> None:
    """Protects the overview of keys: what a key may do, its source if that is not its person, and what excludes it."""
    odd = msgspec.structs.replace(
        KEY,
        person="github:amos",
        person_id=7,
        source="github-team:acme/devs",
        comment="laptop",
        options="no-pty",
        narrowed_out=True,
    )
    authority = msgspec.structs.replace(KEY, key_type="ssh-ed25519", bits=256, authority=True)
    assert text.logins([LoginReport("amos", (odd, authority))], pictures=False) == [
        f"  FINGERPRINT{' ' * 39}  TYPE      WHO",
        "amos",
        f"  {SHA}  RSA 3072  github:amos#7",
        "    of github-team:acme/devs",
        "    comment: laptop",
        "    options: no-pty",
        "    NOT let in: only_fingerprints or key_types of this login leave it out",
        f"  {SHA}  ED25519   github:example",
        "    an authority: lets in with certificates that it has signed",
        "",
    ]


def test_an_account_that_nobody_gets_in_to_is_told() -> None:
    """Protects against a list of keys that looks as if somebody could log in when nobody can."""
    narrowed = msgspec.structs.replace(KEY, narrowed_out=True)
    assert text.logins([LoginReport("amos", ())], pictures=False)[1] == "  nobody gets in: there is no key"
    lines = text.logins([LoginReport("amos", (narrowed,))], pictures=False)
    assert lines[2] == "  nobody gets in: there is no key that may be used"


def test_lists_of_what_is_revoked_are_told_with_what_they_do() -> None:
    """Protects administrators from guessing why all logins fail, or whether a revoked key gets in."""
    lists = (
        RevokedListReport("file:/krl", "krl", 3),
        RevokedListReport("file:/list", "keys", 1, "cannot read /list"),
        RevokedListReport("file:/none", "", 0, "it has not been read yet"),
    )
    revoked = msgspec.structs.replace(KEY, revoked="the key is revoked by file:/list")
    lines = text.keys(KeysReply((LoginReport("amos", (revoked,)),), (SOURCE,), lists), pictures=False)
    assert lines[2:5] == [
        "  nobody gets in: there is no key that may be used",
        f"  {SHA}  RSA 3072  github:example",
        "    NOT let in: the key is revoked by file:/list",
    ]
    assert lines[-9:] == [
        "revoked",
        "  file:/krl",
        "    3 entries (KRL)",
        "! file:/list",
        "    1 entry (public keys)",
        "    problem, so NOBODY GETS IN: cannot read /list",
        "! file:/none",
        "    nothing is known of it yet",
        "    problem, so NOBODY GETS IN: it has not been read yet",
    ]


def test_the_servers_keys_are_told_with_their_certificates() -> None:
    """Shows the key that clients meet, keys that are only announced, and why a certificate is not offered."""
    keys = (HostKeyReport("ssh-ed25519", SHA, next=False), HostKeyReport("ssh-ed25519", SHA, next=False, spare=True))
    good = HostCertificateReport(
        "/a", "", SHA, SHA, "box", 5, ("box.example", "192.0.2.7"), valid_before=1_798_761_600.0
    )
    forever = HostCertificateReport("/b", "it is a user's", SHA, SHA, "", 0)
    beyond = msgspec.structs.replace(good, valid_before=2.0**63)
    reply = KeysReply((), (), (), keys, (good, forever, HostCertificateReport("/c", "it can't be read"), beyond))
    lines = text.keys(reply, pictures=False)
    assert lines[: lines.index("host certificates")] == [
        "sources",
        "",
        "host keys",
        f"  {SHA}  ED25519",
        f"  {SHA}  ED25519",
        "    announced, not used: another one of its type comes first",
        "",
    ]
    told = lines[lines.index("host certificates") + 1 :]
    assert told[0] == "  /a"
    assert told[1].startswith(f"    {SHA}  for box.example, 192.0.2.7, until 202")
    assert told[2:9] == [
        f"    signed by {SHA}  'box', serial number 5",
        "! /b",
        f"    {SHA}  for any host",
        f"    signed by {SHA}  '', serial number 0",
        "    not offered, the plain key is: it is a user's",
        "! /c",
        "    not offered, the plain key is: it can't be read",
    ]
    assert told[10].endswith("until the end of time")


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["  github:example     2  5s ago     -"]),
        (
            {"origin": "last-good", "age": 7200.0, "refused": 1, "next_look": 30.0, "pinned": 7},
            [
                "  github:example     2  2h ago     in 30s",
                "    this is the last good copy",
                "    1 line refused",
                "    account 7, as configured",
            ],
        ),
        (
            {"stale": True, "age": 0.0, "ahead": 86_400.0, "origin": "last-good"},
            [
                "! github:example     2  in 1d      -",
                "    this is the last good copy",
                "    the clock was wrong then or is now: nobody gets in by it until it answers again",
            ],
        ),
        (
            {"stale": True, "failure": "timed out"},
            [
                "! github:example     2  5s ago     -",
                "    too old: nobody gets in by it until it answers again (keys.max_stale)",
                "    problem: timed out",
            ],
        ),
        ({"accepted": 0}, ["! github:example     0  5s ago     -"]),
    ],
)
def test_a_source_is_told_with_what_is_wrong(changes: dict[str, object], lines: list[str]) -> None:
    """Protects people from a source that fails quietly: it gets a mark in front, and each fact has its line."""
    heading, *told = text.sources([msgspec.structs.replace(SOURCE, **changes)])
    assert heading == "  SOURCE          KEYS  CONFIRMED  NEXT LOOK"
    assert told == lines


def test_a_verdict_names_person_and_source() -> None:
    """Protects the answer of `keys test`: it names the person, and also the source when that has another name."""
    amos = Identity("ca:amos", None, SHA)
    assert text.verdicts(
        [
            Verdict("amos", accepted=True, source="ca:/etc/ca.pub", identity=amos),
            Verdict("build", accepted=True, source="url:https://example.com"),
        ]
    ) == ["  amos: yes, as ca:amos of ca:/etc/ca.pub", "  build: yes, as - of url:https://example.com"]


def test_what_is_printed_is_visible_and_stays_readable() -> None:
    """Protects the terminal from control characters, and leaves text alone that has been made safe already."""
    assert visible("\x1b[2J\u202e") == "\\x1b[2J\\u202e"
    assert visible("\\x1b[2J über") == "\\x1b[2J über"

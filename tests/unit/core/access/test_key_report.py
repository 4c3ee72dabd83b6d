"""core.access.key_report: what people read about who may log in, and the verdict on one key."""

import time
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey, KeySnapshot, parse
from pyssh_gateway.core.access.certificates import Certificate
from pyssh_gateway.core.access.key_options import NO_OPTIONS, KeyOptions, parse_options
from pyssh_gateway.core.access.key_report import (
    MAX_COMMAND,
    best_algorithm,
    login_reports,
    options_text,
    revoked_list_reports,
    size_of,
    verdicts,
)
from pyssh_gateway.core.access.revocations import Revocations, RevokedList
from pyssh_gateway.core.control import RevokedListReport, TryKey, Verdict
from pyssh_gateway.events import Identity
from tests.support.certificates import PRINCIPAL, Authority, make_key
from tests.support.key_lines import ecdsa, ed25519, rsa

NOW = 1_800_000_000.0
SOURCE = "file:/keys"


def key(
    line: bytes, options: KeyOptions = NO_OPTIONS, person: str = "file:amos", number: int | None = None
) -> AuthorizedKey:
    """A key as a source provides it."""
    (parsed,) = parse(line.strip(), SOURCE, allow_options=False).accepted
    return AuthorizedKey(
        blob=parsed.blob,
        key_type=parsed.key_type,
        fingerprint=parsed.fingerprint,
        comment="a comment",
        source=SOURCE,
        options=options,
        person=person,
        person_id=number,
    )


def snapshot(
    *keys: AuthorizedKey,
    only_fingerprints: frozenset[str] = frozenset(),
    key_types: frozenset[str] = frozenset(),
) -> KeySnapshot:
    """Two accounts: amos, whom these keys let in, and empty, without keys."""
    lines = {one.blob: (one,) for one in keys if not one.options.cert_authority}
    authorities = {one.blob: (one,) for one in keys if one.options.cert_authority}
    amos = AccountKeys(keys=lines, authorities=authorities, only_fingerprints=only_fingerprints, key_types=key_types)
    return KeySnapshot({PRINCIPAL: amos, "empty": AccountKeys()})


def never(certificate: Certificate) -> bool:
    """The answer that no authority's signature is valid."""
    return False


def test_tells_every_key_of_every_account() -> None:
    """Protects the list of who can log in: all keys, in order, with their persons and their conditions."""
    plain, forced = key(ed25519(1), number=7), key(rsa(3072), parse_options(b'command="id"'))
    amos, empty = login_reports(snapshot(plain, forced))
    assert (amos.user, empty.user) == ("amos", "empty")
    assert empty.keys == ()
    assert [one.fingerprint for one in amos.keys] == [plain.fingerprint, forced.fingerprint]
    first, second = amos.keys
    assert (first.key_type, first.bits, first.comment, first.person, first.person_id, first.source) == (
        "ssh-ed25519",
        256,
        "a comment",
        "file:amos",
        7,
        SOURCE,
    )
    assert (first.options, first.authority, first.narrowed_out) == ("", False, False)
    assert (second.bits, second.options) == (3072, 'command="id"')


def test_tells_which_keys_are_left_out() -> None:
    """Protects against a list that shows too much: keys that the login excludes are marked, authorities are not."""
    one, two = key(ed25519(1)), key(ed25519(2))
    authority = key(ecdsa("nistp256", 65), KeyOptions(cert_authority=True))
    by_fingerprint = login_reports(snapshot(one, two, authority, only_fingerprints=frozenset({two.fingerprint})))[0]
    assert [report.narrowed_out for report in by_fingerprint.keys] == [True, False, False]
    assert [report.authority for report in by_fingerprint.keys] == [False, False, True]
    by_type = login_reports(snapshot(one, authority, key_types=frozenset({"ssh-rsa"})))[0]
    assert [report.narrowed_out for report in by_type.keys] == [True, False]


def test_a_verdict_is_what_a_login_would_get() -> None:
    """Protects the answer of `keys test`: yes with the key's person, or no with the reason that the log would have."""
    mine = key(ed25519(1), parse_options(b"no-pty"), number=7)
    yes, no = verdicts(TryKey(mine.blob), snapshot(mine), NOW, never)
    assert yes == Verdict(
        "amos", True, source=SOURCE, options="no-pty", identity=Identity("file:amos", 7, mine.fingerprint)
    )
    assert (no.user, no.accepted) == ("empty", False)
    assert "not known" in no.reason
    (unknown,) = verdicts(TryKey(mine.blob, user="nobody"), snapshot(mine), NOW, never)
    assert unknown == Verdict("nobody", False, reason="unknown account")


def test_a_verdict_is_about_an_address_and_an_algorithm() -> None:
    """Protects a key's conditions: they are judged for the given address and signature algorithm."""
    office = key(rsa(2048), parse_options(b'from="10.0.0.0/8"'))
    known = snapshot(office)
    assert verdicts(TryKey(office.blob, user="amos", peer="10.1.2.3"), known, NOW, never)[0].accepted
    (away,) = verdicts(TryKey(office.blob, user="amos"), known, NOW, never)
    assert away.reason == "the key may not be used from 127.0.0.1 (from)"
    (old,) = verdicts(TryKey(office.blob, "ssh-rsa", "amos", "10.1.2.3"), known, NOW, never)
    assert "algorithm" in old.reason


def test_a_certificate_s_signature_counts(tmp_path: Path) -> None:
    """Protects against a yes for a forged certificate: its signature is verified."""
    authority = Authority(tmp_path)
    mine = make_key(tmp_path, "mine", "rsa", "-b", "2048")
    certificate = authority.blob_for(mine.with_name("mine.pub"))
    assert best_algorithm(certificate) == "rsa-sha2-512-cert-v01@openssh.com"
    known = snapshot(key(authority.public.read_bytes(), KeyOptions(cert_authority=True)))
    request = TryKey(certificate, user=PRINCIPAL)
    now = time.time()
    assert verdicts(request, known, now, never)[0] == Verdict(
        PRINCIPAL, False, reason="the certificate's signature is wrong"
    )
    (signed,) = verdicts(request, known, now, lambda _certificate: True)
    assert signed.accepted
    assert signed.identity is not None
    assert signed.identity.person == "ca:example"


@pytest.mark.parametrize(
    ("line", "algorithm"),
    [
        (ed25519(), "ssh-ed25519"),
        (rsa(2048), "rsa-sha2-512"),
        (ecdsa("nistp384", 97), "ecdsa-sha2-nistp384"),
    ],
)
def test_knows_what_clients_sign_with(line: bytes, algorithm: str) -> None:
    """Protects RSA keys from being judged by the SHA-1 algorithm of their name."""
    (parsed,) = parse(line, "", allow_options=False).accepted
    assert best_algorithm(parsed.blob) == algorithm


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cert-authority",
        "restrict",
        "no-pty",
        "no-port-forwarding,no-agent-forwarding,no-X11-forwarding",
        "verify-required,no-touch-required",
        'command="echo \\"hi\\""',
        'from="10.0.0.0/8,!10.0.0.1"',
        'permitopen="localhost:80",permitopen="[::1]:*"',
        'permitlisten="*:8080"',
        'expiry-time="20300102030405Z"',
        'cert-authority,principals="amos,build"',
    ],
)
def test_options_are_told_as_they_are_written(text: str) -> None:
    """Protects the meaning: the options that are shown could be written into a key file and mean the same."""
    options = parse_options(text.encode()) if text else NO_OPTIONS
    assert options_text(options) == text


def test_options_tell_no_secrets() -> None:
    """Protects tokens in `environment=`, and the screen from long shell commands."""
    options = parse_options(b'environment="TOKEN=secret",command="' + b"x" * 200 + b'"')
    assert options_text(options) == f'command="{"x" * MAX_COMMAND}...",environment="TOKEN=..."'
    assert options_text(KeyOptions(command=b"\xff")) == 'command="\udcff"'


def test_a_size_that_is_unknown_is_none() -> None:
    """Protects against a crash on a type of key that is not known here yet: its size is 0."""
    assert size_of("ssh-new", b"") == 0


def test_what_is_revoked_is_told_of_keys_and_of_lists() -> None:
    """A revoked key is shown with the list that has it; a list that was never readable has no content to show."""
    revoked, free = key(ed25519(1)), key(ed25519(2))
    lists = (
        RevokedList("file:/krl", Revocations("krl", keys=frozenset({revoked.blob}))),
        RevokedList("file:/none", None, "cannot read it"),
    )
    everybody = msgspec.structs.replace(snapshot(revoked, free), revoked=lists)
    assert [one.revoked for one in login_reports(everybody)[0].keys] == ["the key is revoked by file:/krl", ""]
    assert revoked_list_reports(everybody) == (
        RevokedListReport("file:/krl", "krl", 1),
        RevokedListReport("file:/none", "", 0, "cannot read it"),
    )

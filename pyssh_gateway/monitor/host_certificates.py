"""Certificates of the server's keys: clients that trust their authority know the server at first sight.

A certificate is offered in key exchange beside its key (sshd's HostCertificate). One that can't be used is reported and
left out, and its plain key is still offered. This module does not know how anything is offered or signed.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from pyssh_gateway.core.access import certificates
from pyssh_gateway.core.access.authorized_keys import fingerprint
from pyssh_gateway.core.access.certificates import FOREVER, Certificate, CertificateError
from pyssh_gateway.core.access.policy import SIGNATURE_ALGORITHMS
from pyssh_gateway.core.control import HostCertificateReport
from pyssh_gateway.core.idle.explain import time_span
from pyssh_gateway.events import HostCertificateLoaded
from pyssh_gateway.keys.files import UntrustedFileError, read_trusted
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.monitor.signatures import certificate_verified
from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

MAX_BYTES = 16 * 1024
"""The longest certificate (`ipc.postauth.Blob`): half a kilobyte is usual, and an RSA key signed by an RSA key has 2
KiB. Strangers get it at each key exchange, and a message of ours has room for six of them
(`ipc.spawner.MAX_MESSAGE`)."""

_MAX_FILE_BYTES = 2 * MAX_BYTES  # in base64, with a comment

MAX_NAMES = 20
"""How many principals are reported: hosts have a few names, and an event has one line."""


class HostCertificate(msgspec.Struct, frozen=True):
    """What is in the file `path`: a certificate, and the `problem`, if any, that makes it unusable at any time."""

    path: str
    blob: bytes = b""
    certificate: Certificate | None = None
    problem: str = ""

    def trouble(self, now: float) -> str:
        """Why it is not offered at `now` (Unix time); empty if it is."""
        certificate = self.certificate
        if self.problem or certificate is None:
            return self.problem
        if now < certificate.valid_after:
            return f"it is not valid yet, for another {time_span(certificate.valid_after - now)}"
        if now >= certificate.valid_before:
            return f"it expired {time_span(now - certificate.valid_before)} ago"
        return ""


class Holder(Protocol):
    """Holds the certificates in force."""

    certificates: tuple[HostCertificate, ...]


def load(places: Sequence[tuple[str, bool]], keys: Sequence[HostKey]) -> tuple[HostCertificate, ...]:
    """The certificates of `keys` in the files `places`, each with whether it has to be there."""
    found = []
    for path, is_required in places:
        try:
            data = read_trusted(
                Path(path), limit=_MAX_FILE_BYTES, forbidden_mode=OTHERS_MAY_WRITE, purpose="a host certificate"
            )
        except (OSError, UntrustedFileError) as error:
            found += _unreadable(path, error, is_required=is_required)
        else:
            found.append(judge(path, data, keys))
    return tuple(found)


async def renew(
    holder: Holder,
    places: Sequence[tuple[str, bool]],
    keys: Sequence[HostKey],
    *,
    read: Callable[[str], Awaitable[bytes]],
    publish: Callable[[HostCertificateLoaded], None],
    now: float,
) -> None:
    """Read them again with `read`, which raises OSError; if they have changed, put them in force and publish them."""
    found: list[HostCertificate] = []
    for path, is_required in places:
        try:
            found.append(judge(path, await read(path), keys))
        except OSError as error:
            found += _unreadable(path, error, is_required=is_required)
    if tuple(found) != holder.certificates:
        holder.certificates = tuple(found)
        for told in loaded(found, now):
            publish(told)


def judge(path: str, data: bytes, keys: Sequence[HostKey]) -> HostCertificate:
    """What is in a file, and whether it is a certificate of one of `keys` that may be offered to clients."""
    blob = _blob_in(data)
    if not blob:
        return HostCertificate(path, problem="there is no certificate in OpenSSH's one-line form in it")
    try:
        certificate = certificates.parse(blob)
    except CertificateError as error:
        return HostCertificate(path, problem=f"it can't be used: {error}")
    return HostCertificate(path, blob, certificate, _problem(blob, certificate, keys))


def reports(found: Sequence[HostCertificate], now: float) -> tuple[HostCertificateReport, ...]:
    """The certificates, as people are told of them."""
    return tuple(
        HostCertificateReport(path=one.path, problem=one.trouble(now))
        if one.certificate is None
        else HostCertificateReport(
            path=one.path,
            problem=one.trouble(now),
            key=fingerprint(one.certificate.public_blob),
            authority=fingerprint(one.certificate.ca_blob),
            key_id=one.certificate.key_id,
            serial=one.certificate.serial,
            principals=one.certificate.principals[:MAX_NAMES],
            valid_after=one.certificate.valid_after,
            valid_before=None if one.certificate.valid_before == FOREVER else one.certificate.valid_before,
        )
        for one in found
    )


def loaded(found: Sequence[HostCertificate], now: float) -> tuple[HostCertificateLoaded, ...]:
    """The events to publish when they have been read."""
    return tuple(
        HostCertificateLoaded(
            path=one.path,
            problem=one.problem,
            key=one.key,
            authority=one.authority,
            key_id=one.key_id,
            serial=one.serial,
            principals=one.principals,
            valid_before=one.valid_before,
        )
        for one in reports(found, now)
    )


def _problem(blob: bytes, certificate: Certificate, keys: Sequence[HostKey]) -> str:
    """Why the certificate can't be offered to clients at any time; empty if it can."""
    if len(blob) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    if certificate.kind != certificates.HOST:
        return "it is a user's, not a host's: sign the key again with ssh-keygen -s <authority> -h"
    if certificate.critical_options:  # sshkey_cert_check_host in OpenSSH's sshkey.c
        return "it has critical options, with which clients refuse it"
    if certificate.signature_algorithm not in SIGNATURE_ALGORITHMS[certificate.ca_type]:
        return f"it is signed with {certificate.signature_algorithm}, which clients refuse"
    if not certificate_verified(certificate):
        return "its signature is wrong"
    known_as = fingerprint(certificate.public_blob)
    for key in keys:
        if key.public_blob == certificate.public_blob:
            return f"its key {known_as} is announced to clients only, and not used" if key.next or key.spare else ""
    return f"its key {known_as} is no host key of this server: sign the public key beside the one in use"


def _unreadable(path: str, error: OSError | UntrustedFileError, *, is_required: bool) -> list[HostCertificate]:
    if isinstance(error, FileNotFoundError) and not is_required:
        return []
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return [HostCertificate(path, problem=f"it can't be read: {reason}")]


def _blob_in(data: bytes) -> bytes:
    """The first certificate in a text; empty if there is none."""
    blobs = certificates.blobs_in(data)
    return next((blob for blob in blobs if certificates.type_of(blob) in certificates.CERTIFICATE_TYPES), b"")

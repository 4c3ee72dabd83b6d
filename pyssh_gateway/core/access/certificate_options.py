"""What a certificate's options permit and require, alone and combined with the options of the authority's line.

Follows OpenSSH's sshauthopt_from_cert and sshauthopt_merge (auth-options.c). This module does not know which client
asks, or from where.
"""

import ipaddress
import re

import msgspec

from pyssh_gateway.core.access.certificates import Certificate, CertificateError, shown
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.wire import MalformedError, Reader
from pyssh_gateway.core.transfers.sftp_options import problem_of

MAX_NETWORKS = 64
"""Entries of source-address. Each costs 40 µs to read and to match, and any unauthenticated client can cause that."""

# The extensions that mean something here.
_FLAGS = frozenset(
    {
        b"permit-pty",
        b"permit-port-forwarding",
        b"permit-agent-forwarding",
        b"permit-X11-forwarding",
        b"permit-user-rc",
        b"no-touch-required",
    }
)

# OpenSSH's VALID_CIDR_CHARS: without it, Python would also take a netmask or an interface's name.
_NETWORK = re.compile(r"[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?")


def granted(certificate: Certificate) -> KeyOptions:
    """What the certificate's own options permit and require.

    Only what an extension permits is permitted. Raises CertificateError for a critical option that is not understood.
    """
    command: bytes | None = None
    source: tuple[str, ...] = ()
    verify_required = False
    for name, data in certificate.critical_options:
        match name:
            case b"force-command":
                command = _value(name, data)
                if problem := problem_of(command):
                    raise CertificateError(f"its force-command can't be obeyed: {problem}")
            case b"source-address":
                source = _networks(_value(name, data))
            case b"verify-required":
                _check_flag(name, data)
                verify_required = True
            case _:
                raise CertificateError(f"its critical option {shown(name)} is not known here")
    flags = set()
    for name, data in certificate.extensions:
        if name in _FLAGS:  # others "may safely" be ignored: an extension only ever grants
            _check_flag(name, data)
            flags.add(name)
    return KeyOptions(
        pty=b"permit-pty" in flags,
        port_forwarding=b"permit-port-forwarding" in flags,
        agent_forwarding=b"permit-agent-forwarding" in flags,
        x11_forwarding=b"permit-X11-forwarding" in flags,
        user_rc=b"permit-user-rc" in flags,
        command=command,
        source=source,
        verify_required=verify_required,
        touch_required=b"no-touch-required" not in flags,
    )


def merged(line: KeyOptions, certificate: KeyOptions) -> KeyOptions:
    """Both combined: what both permit, and everything that either requires.

    The caller has to refuse two different forced commands before, and to check both `source` lists separately: the
    result has the line's `source`, as well as the options that only a line can have.
    """
    return msgspec.structs.replace(
        line,
        pty=line.pty and certificate.pty,
        port_forwarding=line.port_forwarding and certificate.port_forwarding,
        agent_forwarding=line.agent_forwarding and certificate.agent_forwarding,
        x11_forwarding=line.x11_forwarding and certificate.x11_forwarding,
        user_rc=line.user_rc and certificate.user_rc,
        command=certificate.command if line.command is None else line.command,
        verify_required=line.verify_required or certificate.verify_required,
        touch_required=line.touch_required or certificate.touch_required,
    )


def _value(name: bytes, data: bytes) -> bytes:
    """The one string that an option's data holds."""
    reader = Reader(data)
    try:
        value = reader.string()
        reader.end()
    except MalformedError as error:
        raise CertificateError(str(error)) from None
    if b"\0" in value:  # OpenSSH reads it as a C string, and so does exec
        raise CertificateError(f"its option {shown(name)} has a NUL in it")
    return value


def _check_flag(name: bytes, data: bytes) -> None:
    if data:
        raise CertificateError(f"its option {shown(name)} has a value, which it can't have")


def _networks(value: bytes) -> tuple[str, ...]:
    """The networks of a source-address: as in OpenSSH's addr_match_cidr_list no names, no patterns, no negation."""
    entries = value.decode("ascii", "replace").split(",")
    if len(entries) > MAX_NETWORKS:
        raise CertificateError(f"its source-address has more than {MAX_NETWORKS} entries")
    return tuple(_network(entry) for entry in entries)


def _network(entry: str) -> str:
    try:
        if _NETWORK.fullmatch(entry):
            return str(ipaddress.ip_network(entry))  # bits beyond the length are an error
    except ValueError:
        pass
    raise CertificateError("its source-address is not a list of addresses and networks")

"""`keys`, `keys refresh`, `keys test`, `keys accept`: who can log in with which key, how fresh that is, and why not."""

import ipaddress
import sys
from pathlib import Path

from pyssh_gateway.cli.accounts import closed
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, NO, Failed, WrongUsage
from pyssh_gateway.cli.output import printing, text
from pyssh_gateway.cli.output.columns import terminal_width
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.request import NoServer, ask
from pyssh_gateway.cli.server_socket import Server
from pyssh_gateway.config import values
from pyssh_gateway.core import control
from pyssh_gateway.core.access.authorized_keys import fingerprint
from pyssh_gateway.core.access.certificates import blobs_in, type_of
from pyssh_gateway.core.access.key_report import THIS_MACHINE

_MAX_FILE_BYTES = 64 * 1024
"""The largest public key file: a certificate with hundreds of principals takes a quarter of it."""


def show(given: Given, context: Context) -> int:
    """Show who can log in, according to the running server, or else to the files on the disk."""
    server = None
    try:
        reply, server = ask(context.checked_places, control.Keys(), control.KeysReply)
    except NoServer as error:
        from pyssh_gateway.cli import offline  # late: without a server only

        _say_offline(error)
        reply = offline.keys_reply(context.config)
    _print(reply, server, given, pictures=given.randomart)
    return FINE


def refresh(given: Given, context: Context) -> int:
    """Make the running server ask every source now."""
    reply, server = ask(context.checked_places, control.RefreshKeys(), control.KeysReply, slow=True)
    _print(reply, server, given, pictures=False)
    failures = [source.failure for source in reply.sources] + [listed.failure for listed in reply.revoked]
    return NO if any(failures) else FINE


def _print(reply: control.KeysReply, server: Server | None, given: Given, *, pictures: bool) -> None:
    if given.json:
        printing.json(reply, server)
        return
    printing.lines(text.keys(reply, pictures=pictures, width=terminal_width()))


def test(given: Given, context: Context) -> int:
    """Say whether a key would be accepted, and if not, why."""
    blob = _read_public_key(given.file)
    if given.peer and not _is_address(given.peer):
        raise WrongUsage(f"--from takes an IP address, not {values.shown(given.peer)}")
    request = control.TryKey(blob, user=given.user, peer=given.peer)
    server = None
    try:
        reply, server = ask(context.checked_places, request, control.VerdictsReply)
    except NoServer as error:
        from pyssh_gateway.cli import offline  # late: without a server only

        _say_offline(error)
        reply = offline.verdicts_reply(context.config, request)
    accepted = [verdict.user for verdict in reply.verdicts if verdict.accepted]
    refused = {user: told for user in accepted if (told := closed(user))}
    if given.json:
        printing.json(reply, server)
    else:
        about = f"{fingerprint(blob)}  {type_of(blob)}  from {given.peer or THIS_MACHINE}"
        printing.lines([about, *text.verdicts(reply.verdicts)])
    for user, told in refused.items():
        printing.remark(f"{user} gets no session: {told}")
    return FINE if len(accepted) > len(refused) else NO


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def accept(given: Given, context: Context) -> int:
    """Make the running server trust the account that has a source's name now."""
    reply, _ = ask(context.checked_places, control.AcceptAccount(given.source), control.AcceptedReply, slow=True)
    printing.lines([reply.message])
    return FINE


def _say_offline(error: NoServer) -> None:
    printing.remark(f"{error}; this is by the key files and the last good copies on the disk")


def _read_public_key(name: str) -> bytes:
    """The first key or certificate in a file. Raises Failed."""
    try:
        if name == "-":
            if sys.stdin is None:
                raise Failed("standard input is closed")
            data = sys.stdin.buffer.read(_MAX_FILE_BYTES)
        else:
            with Path(name).open("rb") as file:
                data = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise Failed(f"{name} can't be read: {error.strerror}") from None
    if data.startswith(b"-----BEGIN"):
        raise Failed(f"{name} is a private key, which stays where it is: name the file that ends in .pub")
    for blob in blobs_in(data):
        return blob
    raise Failed(f"{name} has no public key in OpenSSH's one-line form in it")

"""`audit checkpoint`: the newest signed checkpoint of the log; `audit key`: the public key that verifies it."""

import msgspec

from pyssh_gateway.cli.audit.evidence import checkpoints, own_keys, print_exactly
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given


class Newest(msgspec.Struct, frozen=True):
    """The newest checkpoint: how many lines it is about, and the signed note."""

    size: int
    note: str


class Keys(msgspec.Struct, frozen=True):
    """The public keys, the newest last."""

    keys: tuple[str, ...]


def newest(given: Given, context: Context) -> int:
    """Print the newest checkpoint as it was signed. No server is asked."""
    directory = audit_dir(given, context)
    with readable():
        judged = checkpoints(directory, (), own_keys(directory), sole=False)
    found = max(judged.good, key=lambda one: one.size, default=None)
    if found is None:
        raise Failed(f"there is no checkpoint in {directory} yet")
    if given.json:
        print_exactly(Newest(found.size, found.note))
    else:
        printing.write(found.note)
    return FINE


def key(given: Given, context: Context) -> int:
    """Print the public key in the form that C2SP's tools take, the newest one last."""
    directory = audit_dir(given, context)
    with readable():
        found = own_keys(directory)
    if given.json:
        printing.json(Keys(tuple(one.text for one in found)))
    else:
        printing.lines(one.text for one in found)
    return FINE

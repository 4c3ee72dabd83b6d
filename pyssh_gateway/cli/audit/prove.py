"""`audit prove`: the proof that a line is in the log, for somebody who does not have the log; and its check."""

import sys
from pathlib import Path

from pyssh_gateway.audit.proving.inclusion import NoProof, Proof, check, find, prove
from pyssh_gateway.cli.audit.evidence import checkpoints, keys, print_exactly
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given

MAX_PROOF = 16 * 1024 * 1024
"""Bytes of a proof that are read: more than the longest line has."""


def run(given: Given, context: Context) -> int:
    """Print a proof, or check one. No server is asked."""
    directory = audit_dir(given, context)
    try:
        with readable():
            if given.check is not None:
                return _check(given, directory)
            proof = _prove(given, directory)
    except NoProof as error:
        raise Failed(str(error)) from None
    print_exactly(proof)
    return FINE


def _prove(given: Given, directory: Path) -> Proof:
    seq, line = _number(given.seq, "SEQ"), _number(given.line, "--line")
    if (seq is None) == (line is None):
        raise WrongUsage("one line is proved at a time: give the seq of its event, or --line")
    judged = checkpoints(directory, given.checkpoints, keys(given.key, directory), sole=bool(given.key))
    index = line if line is not None else find(directory, seq or 0)
    return prove(directory, index, judged.good)


def _check(given: Given, directory: Path) -> int:
    if given.seq is not None or given.line is not None:
        raise WrongUsage("a proof says itself what it proves", "--check takes neither SEQ nor --line")
    try:
        text = _read(given.check)
    except OSError as error:
        raise WrongUsage(f"{given.check} can't be read: {error.strerror}") from None
    proof = check(text, keys(given.key, directory))
    if given.json:
        print_exactly(proof)
    else:
        printing.lines([f"proved: line {proof.index} of {proof.size} is", proof.line])
    return FINE


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(MAX_PROOF)
    with Path(name).open("rb") as file:
        return file.read(MAX_PROOF)


def _number(word: str | None, what: str) -> int | None:
    if word is None:
        return None
    if not word.isascii() or not word.isdigit() or len(word) > 18:
        raise WrongUsage(f"{what}: {word!a} is no number")
    return int(word)

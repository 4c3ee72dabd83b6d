"""Proofs that a line is in the log, for somebody who does not have it: checked here by three other programs."""

import json
import re
import subprocess
import sys
from binascii import a2b_base64
from pathlib import Path

import msgspec
import pytest
from pymerkle import InmemoryTree, verify_inclusion  # type: ignore[import-untyped]  # it has no types

from pyssh_gateway.audit.proving.checkpoints import Signed, judge, local_notes
from pyssh_gateway.audit.proving.inclusion import NoProof, Proof, check, find, prove
from pyssh_gateway.audit.segments import log_lines
from pyssh_gateway.core.transparency.merkle import leaf_hash, root_from_path
from tests.support.places import ROOT
from tests.support.signed_log import SignedLog
from tests.support.waiting import PATIENCE


@pytest.fixture
def log(tmp_path: Path) -> SignedLog:
    """Three files, each of which ends before the checkpoint of its last lines."""
    log = SignedLog(tmp_path / "log")
    for number in range(3):
        if number:
            log.rotate(compressed=number == 1)
        log.write(10)
        log.sign()
        log.write(7)
    return log


def signed(log: SignedLog) -> list[Signed]:
    """The checkpoints of the log."""
    return judge(local_notes(log.directory), [log.key], sole=False).good


def encoded(proof: Proof) -> bytes:
    """The proof as it is printed."""
    return msgspec.json.encode(proof)


def test_every_line(log: SignedLog) -> None:
    """Each line up to the last checkpoint has a proof, which pymerkle accepts, too, also when old files are gone."""
    tree = InmemoryTree(algorithm="sha256")
    lines = list(log_lines(log.directory))
    for line in lines:
        tree.append_entry(line)
    for index in range(44):
        if index == 17:
            log.files()[0].unlink()
        proof = prove(log.directory, index, signed(log))
        assert check(encoded(proof), [log.key]) == proof
        assert proof.line.encode() == lines[index]
        assert proof.size == next(size for size in (10, 27, 44) if size > index)
        path = [a2b_base64(one) for one in proof.hashes]
        root = root_from_path(index, proof.size, leaf_hash(lines[index]), path)
        verify_inclusion(leaf_hash(lines[index]), root, tree.prove_inclusion(index + 1, proof.size))
        assert root == tree.get_root(proof.size)


def test_the_program_of_the_documentation(log: SignedLog, tmp_path: Path) -> None:
    """The program in docs/audit.md needs nothing of ours, accepts each proof, and refuses a line that was changed."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(), re.DOTALL)
    assert set(re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE)) <= {"base64", "hashlib", "json", "sys"}
    assert len(program.splitlines()) <= 18

    def run(proof: bytes) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-I", "-c", program]
        return subprocess.run(command, input=proof, capture_output=True, timeout=PATIENCE, check=False)

    for index in (0, 9, 20, 43):
        proof = encoded(prove(log.directory, index, signed(log)))
        assert run(proof).returncode == 0
        assert run(proof.replace(b"amos", b"anna")).returncode != 0
        assert run(proof.replace(b'"index":%d' % index, b'"index":%d' % (index ^ 1))).returncode != 0


def test_events_by_their_number(log: SignedLog) -> None:
    """A line is found by its event's number, unless an old log has that number several times."""
    assert find(log.directory, 20) == 19
    with pytest.raises(NoProof, match="no event 99"):
        find(log.directory, 99)
    with (log.directory / "events.jsonl").open("ab") as file:
        file.write(b'{"seq":20,"text":1}\n"seq":21,\n')
    with pytest.raises(NoProof, match="2 events have the number 20"):
        find(log.directory, 20)


def test_what_can_not_be_proved(log: SignedLog) -> None:
    """There is a reason for each proof that there is not."""
    with pytest.raises(NoProof, match="no checkpoint covers line 44"):
        prove(log.directory, 44, signed(log))
    last = log.files()[-1]
    content = last.read_bytes()
    last.write_bytes(content.replace(b'"amos"', b'"anna"', 1))
    with pytest.raises(NoProof, match="are not those that were signed"):
        prove(log.directory, 40, signed(log))
    last.write_bytes(content.partition(b"\n")[2])
    with pytest.raises(NoProof, match="see audit verify"):
        prove(log.directory, 40, signed(log))
    last.write_bytes(content)
    middle = log.files()[1]
    lines = middle.read_bytes().splitlines(keepends=True)
    middle.write_bytes(b"".join(lines[1:]))
    with pytest.raises(NoProof, match="has no header"):
        prove(log.directory, 20, signed(log))
    middle.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(NoProof, match="lines before line 44 are missing"):
        prove(log.directory, 30, signed(log))
    first = log.files()[0]
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.raises(NoProof, match="decompressed"):
        find(log.directory, 3)
    first.unlink()
    with pytest.raises(NoProof, match="line 3 is gone"):
        prove(log.directory, 3, signed(log))


def test_a_line_that_is_no_text(tmp_path: Path) -> None:
    """What a crash has left of a line is a line of the tree, and can't be shown in JSON."""
    log = SignedLog(tmp_path / "log")
    (log.directory / "events.jsonl").write_bytes(b"\xff\n")
    log.tree.append(b"\xff")
    log.sign()
    with pytest.raises(NoProof, match="no text"):
        prove(log.directory, 0, signed(log))


def test_wrong_proofs(log: SignedLog) -> None:
    """A proof with anything else in it is refused."""
    proof = json.loads(encoded(prove(log.directory, 20, signed(log))))
    other = SignedLog(log.directory.with_name("other"), seed=2)
    other.write(27)
    changes = (
        {"line": "x"}, {"index": 21}, {"size": 26}, {"hashes": proof["hashes"][:-1]}, {"hashes": ["!"]},
        {"checkpoint": other.sign()}, {"checkpoint": proof["checkpoint"].replace("\n27\n", "\n28\n")},
        {"checkpoint": "x"}, {"size": -1}, {"line": None},
    )  # fmt: skip
    for change in changes:
        with pytest.raises(NoProof):
            check(json.dumps(proof | change).encode(), [log.key])

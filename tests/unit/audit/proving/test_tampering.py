"""Whatever is done to a signed log, it is found by the checkpoints that were collected from standard output."""

import random
from pathlib import Path

import pytest

from pyssh_gateway.audit.proving.checkpoints import given_notes, judge, local_notes
from pyssh_gateway.audit.proving.verification import Verdict, verify
from tests.support.signed_log import SignedLog
from tests.support.tampering import Tampering


@pytest.fixture
def log(tmp_path: Path) -> SignedLog:
    """Four files, two of them compressed, with nine checkpoints, and two lines after the last of them."""
    log = SignedLog(tmp_path / "log")
    for number in range(4):
        for count in (11, 1, 14):
            log.write(count)
            if (number, count) != (3, 14):
                log.sign()
        if number < 3:
            log.write(3)
            log.rotate(compressed=number < 2)
    return log


def verdict_of(log: SignedLog, directory: Path, collected: list[bytes], *, local: bool = True) -> Verdict:
    """What a verification says that goes by the log's own key."""
    notes = [*given_notes("collected", collected), *(local_notes(directory) if local else ())]
    return verify(directory, judge(notes, [log.key], sole=False))


def check(log: SignedLog, directory: Path, seeds: range) -> None:
    """Tamper with the log, once for each seed, and verify it."""
    whole = verdict_of(log, log.directory, log.collected)
    assert whole.intact
    assert (whole.first, whole.proved, whole.uncovered) == (0, log.tree.size - 14, 14)
    for seed in seeds:
        tampering = Tampering(log, directory / str(seed), whole.proved, random.Random(seed))
        what = tampering.do()
        verdict = verdict_of(log, tampering.directory, tampering.collected)
        assert not verdict.intact, f"seed {seed}: {what}"
        assert all(finding.text for finding in verdict.findings)


def test_tampering(log: SignedLog, tmp_path: Path) -> None:
    """Each of these is found."""
    check(log, tmp_path, range(100))


@pytest.mark.soak
def test_much_tampering(log: SignedLog, tmp_path: Path) -> None:
    """Each of a thousand others, too."""
    check(log, tmp_path, range(1000, 2000))

"""Long runs of NUL, which have a way of their own into a recording because the usual one is slow."""

import json

import pytest

from pyssh_gateway.core.recordings.asciicast import Encoder


@pytest.mark.parametrize(
    "text", ["a" + 15 * "\0" + "b", 16 * "\0", 'x"\n' + 100 * "\0" + "é\x1b" + 17 * "\0", 16 * "\0" + "z" + 3 * "\0"]
)
def test_runs_of_nul_are_recorded_as_they_are(text: str) -> None:
    """Protects recordings of binary files: what is written reads as what was shown."""
    assert json.loads(Encoder().output(1.5, text.encode())) == [1.5, "o", text]

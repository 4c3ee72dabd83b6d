"""How each target is run: `python -m fuzz.<target> <directory> [libFuzzer's options]`.

The directory keeps the corpus for the next run, and the input of a failure.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris


def run(target: Callable[[bytes], None], seeds: Iterable[bytes], words: Iterable[str]) -> None:
    """Fuzz `target` until libFuzzer's limits or a failure, from `seeds` and with a dictionary of `words`."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (directory / f"seed-{number}").write_bytes(seed)
    dictionary = directory.with_name(f"{directory.name}.dict")
    dictionary.write_text("".join(f'"{word}"\n' for word in words))
    options = [f"-dict={dictionary}", f"-artifact_prefix={directory}-failure-", "-timeout=10", *sys.argv[2:]]
    atheris.Setup([sys.argv[0], *options, str(directory)], target)
    atheris.Fuzz()

"""Runs a program in a terminal of its own, records that, and shows it on the terminal that it is run on.

`python -m tests.support.recorded_program FILE PROGRAM...`. What the program writes is recorded in small pieces, which
cut characters and sequences anywhere.
"""

import os
import select
import signal
import subprocess
import sys
import time
import tty
from pathlib import Path

from pyssh_gateway.audit.zstd import ZstdCompressor
from pyssh_gateway.cli.output.raw_terminal import window_size
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from pyssh_gateway.system.pty_size import set_size

PIECE = 61
"""Bytes: a prime, so that cuts fall everywhere."""


def main(path: Path, argv: list[str]) -> None:
    """Record until the program has ended."""
    encoder, compressor, began = Encoder(), ZstdCompressor(), time.monotonic()
    cols, rows = window_size(0)
    master, slave = os.openpty()
    set_size(master, cols, rows, 0, 0)
    program = subprocess.Popen(["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    tty.setraw(0)
    resized, wake = os.pipe()
    signal.signal(signal.SIGWINCH, lambda *_: os.write(wake, b"!"))
    with path.open("wb", buffering=0) as file:

        def record(line: bytes) -> None:
            file.write(compressor.compress(line) + compressor.flush(ZstdCompressor.FLUSH_BLOCK))

        record(encoder.header(Header(cols=cols, rows=rows, term=os.environ["TERM"], timestamp=int(time.time()))))
        while True:
            readable, _, _ = select.select([0, master, resized], [], [])
            if resized in readable:
                os.read(resized, 100)
                cols, rows = window_size(0)
                set_size(master, cols, rows, 0, 0)
                record(encoder.resize(time.monotonic() - began, cols, rows))
            if 0 in readable:
                os.write(master, os.read(0, 1024))
            if master in readable:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    break
                os.write(1, data)
                for start in range(0, len(data), PIECE):
                    record(encoder.output(time.monotonic() - began, data[start : start + PIECE]))
        record(encoder.exit(time.monotonic() - began, program.wait()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

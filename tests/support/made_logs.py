"""The files of a log, made from lines: closed ones compressed, under the names that the server gives them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pyssh_gateway.audit import header
from pyssh_gateway.audit.log_file import FILE_NAME
from pyssh_gateway.audit.segments import sealed_name
from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.audit.zstd import ZstdCompressor


def write_log(directory: Path, lines: Sequence[bytes], cuts: Iterable[int] = (), *, deleted: int = 0) -> Path:
    """Write a log whose files begin at the indexes `cuts`, without the first `deleted` of them; returns the directory.

    Lines have their newlines.
    """
    for old in directory.glob("events*.jsonl*"):
        old.unlink()
    begins = [0, *cuts]
    tree = Tree()
    for number, (first, end) in enumerate(zip(begins, [*begins[1:], len(lines)], strict=True)):
        head = header.encode(header.Header(first, tree.range())) + b"\n" if first else b""
        for line in lines[first:end]:
            tree.append(line.removesuffix(b"\n"))
        if number < deleted:
            continue
        data = head + b"".join(lines[first:end])
        if number == len(begins) - 1:
            (directory / FILE_NAME).write_bytes(data)
        else:
            compressor = ZstdCompressor()
            sealed = compressor.compress(data) + compressor.flush()
            (directory / sealed_name(first, compressed=True)).write_bytes(sealed)
    return directory

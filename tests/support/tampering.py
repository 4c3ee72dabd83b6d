"""What somebody may do to a log: each way once at random, in files where a checkpoint covers it."""

import random
from binascii import b2a_base64
from collections.abc import Callable
from pathlib import Path

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.header import Header
from pyssh_gateway.audit.log_file import FILE_NAME
from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME
from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.audit.zstd import ZstdDecompressor
from tests.support.signed_log import SignedLog, checkpoint_line, log_line, packed

Tamper = Callable[["Tampering"], str]


class Tampering:
    """Does one thing to a copy of a log, chosen by `chance`. `covered` is the number of lines that are signed."""

    def __init__(self, log: SignedLog, directory: Path, covered: int, chance: random.Random) -> None:
        self.log = log
        self.directory = log.copy(directory)
        self.files = [directory / path.name for path in log.files()]
        self.covered = covered
        self.collected = list(log.collected)
        self.chance = chance

    def do(self) -> str:
        """Tamper with the log; returns what was done."""
        ways: tuple[Tamper, ...] = (
            Tampering.edit, Tampering.remove, Tampering.duplicate, Tampering.swap, Tampering.forge, Tampering.cut,
            Tampering.cut_file, Tampering.lose_file, Tampering.rename, Tampering.change_header,
            Tampering.recount_header, Tampering.remove_header, Tampering.damage, Tampering.change_checkpoint,
            Tampering.replace_checkpoint, Tampering.change_collected, Tampering.other_signer,
            Tampering.wipe, Tampering.begin_later,
        )  # fmt: skip
        return self.chance.choice(ways)(self)

    # -- lines --------------------------------------------------------------------------------------------------

    def edit(self) -> str:
        """Change a byte, perhaps to a newline."""
        path, lines, at = self._some_line()
        line = bytearray(lines[at])
        place = self.chance.randrange(len(line))
        line[place] ^= self.chance.randrange(1, 256)
        lines[at] = bytes(line)
        return self._write(path, lines, f"byte {place} of line {at} edited")

    def remove(self) -> str:
        """Remove a line."""
        path, lines, at = self._some_line()
        del lines[at]
        return self._write(path, lines, f"line {at} removed")

    def duplicate(self) -> str:
        """Write a line twice, here or elsewhere."""
        path, lines, at = self._some_line()
        lines.insert(self.chance.randint(min(1, at), at), lines[at])
        return self._write(path, lines, f"line {at} duplicated")

    def swap(self) -> str:
        """Exchange two lines of a file."""
        path, lines, at = self._some_line()
        other = self.chance.choice([number for number in range(len(lines)) if number != at])
        lines[at], lines[other] = lines[other], lines[at]
        return self._write(path, lines, f"lines {at} and {other} swapped")

    def forge(self) -> str:
        """Insert a line that looks like one of the server's."""
        path, lines, at = self._some_line()
        lines.insert(at, log_line(self.chance.randrange(1, 2 * self.covered), user="example")[:-1])
        return self._write(path, lines, f"forged line {at}")

    def cut(self) -> str:
        """Cut the file off at some byte, as if nothing had come after."""
        path, lines, at = self._some_line()
        whole = b"".join(line + b"\n" for line in lines[: at + 1])
        self._write_bytes(path, whole[: -self.chance.randint(1, len(lines[at]))])
        return f"{path.name} cut off in line {at}"

    # -- files --------------------------------------------------------------------------------------------------

    def cut_file(self) -> str:
        """Remove the newest files."""
        kept = self.chance.randrange(1, len(self.files))
        for path in self.files[kept:]:
            path.unlink()
        return f"all files after the first {kept} removed"

    def lose_file(self) -> str:
        """Remove a file in the middle."""
        path = self.chance.choice(self.files[1:-1])
        path.unlink()
        return f"{path.name} removed"

    def rename(self) -> str:
        """Give a file a name as if it began elsewhere."""
        path = self.chance.choice(self.files[:-1])
        first = int(path.name[7:19]) + self.chance.choice([-1, 1, 40]) % 10**12
        path.rename(path.with_name(f"events-{first:012}{path.name[19:]}"))
        return f"{path.name} renamed to begin at {first}"

    def damage(self) -> str:
        """Change a byte of a compressed file."""
        while True:
            path = self.chance.choice([path for path in self.files if path.suffix == ".zst"])
            before, content = path.read_bytes(), _content(path)
            data = bytearray(before)
            data[self.chance.randrange(len(data))] ^= self.chance.randrange(1, 256)
            path.write_bytes(data)
            try:
                if _content(path) == content:  # a bit that means nothing
                    path.write_bytes(before)
                    continue
            except Exception:  # noqa: BLE001 - whatever it is, it is not what it was
                pass
            return f"{path.name} damaged"

    # -- headers ------------------------------------------------------------------------------------------------

    def change_header(self) -> str:
        """Change a byte of a header."""
        path, lines = self._with_header()
        line = bytearray(lines[0])
        line[self.chance.randrange(len(line))] ^= self.chance.randrange(1, 256)
        lines[0] = bytes(line)
        return self._write(path, lines, "header changed")

    def recount_header(self) -> str:
        """Write another header that is none the less well-formed."""
        path, lines = self._with_header()
        header = headers.decode(lines[0])
        assert header is not None
        tree = list(header.tree)
        first = header.first
        if self.chance.random() < 0.5:
            self.chance.shuffle(tree)
        if tree == list(header.tree):
            first ^= 3 if first & 3 in {1, 2} else 1 << first.bit_length() | 1 << first.bit_length() - 1
        lines[0] = headers.encode(Header(first, tuple(tree)))
        return self._write(path, lines, f"header says {first} {tree}")

    def remove_header(self) -> str:
        """Remove a header."""
        path, lines = self._with_header()
        del lines[0]
        return self._write(path, lines, "header removed")

    # -- checkpoints --------------------------------------------------------------------------------------------

    def change_checkpoint(self) -> str:
        """Change a character of a note beside the log."""
        path, lines, at = self._some_checkpoint()
        lines[at], what = self._changed(lines[at])
        path.write_bytes(b"".join(lines))
        return f"{path.name} line {at}: {what}"

    def replace_checkpoint(self) -> str:
        """Put another checkpoint in the place of one."""
        path, lines, at = self._some_checkpoint()
        lines[at] = self.chance.choice([line for line in self.log.collected if line != lines[at]])
        path.write_bytes(b"".join(lines))
        return f"{path.name} line {at} replaced by {lines[at]!r}"

    def change_collected(self) -> str:
        """Change a character of a note that was collected."""
        at = self.chance.randrange(len(self.collected))
        self.collected[at], what = self._changed(self.collected[at])
        return f"collected {at}: {what}"

    def other_signer(self) -> str:
        """Sign the log as it is with another key."""
        path, lines, at = self._some_checkpoint()
        lines[at] = lines[at].replace(self.log.key.name.encode(), b"pyssh-gateway/01234567")
        path.write_bytes(b"".join(lines))
        return f"{path.name} line {at} of another log"

    # -- everything -------------------------------------------------------------------------------------------

    def wipe(self) -> str:
        """Leave only a header, which says that as many lines as were signed, or more, are gone; no key is needed."""
        first, hashes = self._only_header()
        return f"only a header left: {first} {hashes}"

    def begin_later(self) -> str:
        """The same, and forge the lines behind it, and sign them with the log's key."""
        first, hashes = self._only_header()
        tree = Tree(first, hashes)
        with (self.directory / FILE_NAME).open("ab") as file:
            for number in range(self.chance.randint(1, 5)):
                file.write(log_line(first + number + 1, user="example"))
                tree.append(log_line(first + number + 1, user="example")[:-1])
        (self.directory / CHECKPOINTS_NAME).write_bytes(checkpoint_line(self.log.note(tree)))
        return f"another log from line {first} on: {hashes}"

    def _only_header(self) -> tuple[int, tuple[str, ...]]:
        """Whatever is beside the log goes, too, but the public key."""
        for path in [*self.files, *self.directory.glob("checkpoints*")]:
            path.unlink()
        tree = Tree()
        for number in range(self.covered):  # the true hashes are known to everybody who can read the log
            tree.append(log_line(number + 1)[:-1])
        first, hashes = self.covered, tree.range()
        if self.chance.random() < 0.7:
            first += self.chance.choice([0, 1, 1000])
            hashes = tuple(
                b2a_base64(self.chance.randbytes(32), newline=False).decode() for _ in range(first.bit_count())
            )
        (self.directory / FILE_NAME).write_bytes(headers.encode(Header(first, hashes)) + b"\n")
        return first, hashes

    # -- helpers ------------------------------------------------------------------------------------------------

    def _some_line(self) -> tuple[Path, list[bytes], int]:
        """A file, its lines with its header, and the number of a line in it that is signed, and no header."""
        path = self.chance.choice(self.files)
        lines = _content(path).split(b"\n")[:-1]
        header = headers.decode(lines[0])
        first = 0 if header is None else header.first - 1
        return path, lines, self.chance.randrange(header is not None, min(len(lines), self.covered - first))

    def _with_header(self) -> tuple[Path, list[bytes]]:
        path = self.chance.choice(self.files[1:])
        return path, _content(path).split(b"\n")[:-1]

    def _some_checkpoint(self) -> tuple[Path, list[bytes], int]:
        path = self.chance.choice(sorted(self.directory.glob("checkpoints*")))
        lines = path.read_bytes().splitlines(keepends=True)
        return path, lines, self.chance.randrange(len(lines))

    def _changed(self, line: bytes) -> tuple[bytes, str]:
        begin, end = line.index(b'"note":"') + 8, line.rindex(b'\\n"}')
        changed = bytearray(line)
        place = self.chance.randrange(begin, end)
        changed[place] = self.chance.choice([byte for byte in range(256) if byte not in {0x0A, changed[place]}])
        return bytes(changed), f"byte {place} changed"

    def _write(self, path: Path, lines: list[bytes], what: str) -> str:
        self._write_bytes(path, b"".join(line + b"\n" for line in lines))
        return f"{path.name}: {what}"

    def _write_bytes(self, path: Path, data: bytes) -> None:
        path.write_bytes(packed(data) if path.suffix == ".zst" else data)


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return ZstdDecompressor().decompress(data) if path.suffix == ".zst" else data

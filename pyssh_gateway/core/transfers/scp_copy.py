"""Which files a copy by scp's old protocol transfers, determined from the messages of both sides.

The machine's scp or ours serves the copy; either way the data passes through the server, and this module only observes:
it changes nothing, keeps no data, and stops at the first violation of the protocol. Pure. The protocol has no
specification but OpenSSH's scp.c (`source`, `rsource`, `sink`): a record is a line, the other side answers each with a
zero byte, or with a one or two and a line of text; the bytes of a file follow when its record has been answered.
"""

import re
from collections import deque
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

MAX_LINE_BYTES = 16 * 1024
"""A longer record or text is invalid: this is the size of scp.c's buffer (sink)."""

MAX_AHEAD = 100
"""How many records may wait for their answers. scp waits for each one; programs that send one file without waiting have
three. A limit is needed because all connections wait while records that are answered together are processed."""

MAX_DEPTH_BYTES = 4096
"""The most bytes of the open directories' names, with a slash each: PATH_MAX. Each file's path is made of them."""

MAX_WORDS = 64
MAX_PATTERN_BYTES = 256
"""Limits for comparing a file's name with words of the command, in number and in length of the pattern (NAME_MAX is
255). A command may have 128 KiB, and all of it would be compared for each file, while all connections wait."""

_FILE = re.compile(rb"C[0-7]{4} ([0-9]{1,20}) (.+)", re.DOTALL)
_DIRECTORY = re.compile(rb"D[0-7]{4} [0-9]{1,20} (.+)", re.DOTALL)
_TIMES = re.compile(rb"T[0-9]{1,20} [0-9]{1,6} [0-9]{1,20} [0-9]{1,6}")

_COMMAND = re.compile(rb"\s*(?:[^\s;&|<>()$`'\"]*/)?scp((?:\s+-[A-Za-z]+)+)(?:\s+--)?\s+(\S.*)", re.DOTALL)


class Asked(msgspec.Struct, frozen=True):
    """The task of an scp command: to send (`source`) the files `words`, or to receive there (`into`: a directory)."""

    source: bool
    words: tuple[bytes, ...]
    into: bool = False


class Copied(msgspec.Struct, frozen=True):
    """A file was copied, or should have been. `outcome` is ok, unfinished, or the error text of either side.

    If `path` is a directory, `rest` is the path in it; if not, `rest` is only the file's name on the other side. The
    protocol does not tell which. `opened` is False if the file was not even begun.
    """

    path: bytes
    rest: bytes
    bytes: int
    outcome: str
    opened: bool = True


def split(command: bytes) -> tuple[bytes, bytes] | None:
    """The flags and the paths of a command that starts a side of a copy; None for any other command."""
    match = _COMMAND.fullmatch(command)
    if match is None:
        return None
    flags = match[1].replace(b"-", b"").translate(None, b" \t\r\n\v\f")
    return (flags, match[2].rstrip()) if (b"t" in flags) != (b"f" in flags) else None


def absolute(path: bytes, home: bytes) -> bytes:
    """The absolute form of `path`, for a command that runs in the directory `home`."""
    if path == b"~" or path.startswith(b"~/"):
        path = path[2:]
    elif path.startswith((b"/", b"~")):
        return path
    while path.startswith(b"./"):
        path = path[2:]
    return home if path in {b"", b"."} else home.rstrip(b"/") + b"/" + path


class _State(Enum):
    RECORD = auto()
    DECIDING = auto()
    DATA = auto()
    STATUS = auto()
    COMPLAINT = auto()


class _File:
    def __init__(self, path: bytes, rest: bytes, size: int) -> None:
        self.path = path
        self.rest = rest
        self.size = size
        self.moved = 0

    def told(self, outcome: str, *, opened: bool = True) -> Copied:
        return Copied(self.path, self.rest, self.moved, outcome, opened)


class _Expected:
    """An expected answer. `problem` is the sender's error with a file. `passed`: the sender has gone on without it."""

    def __init__(
        self,
        kind: Literal["ready", "file", "directory", "done", "other"],
        file: _File | None = None,
        problem: str = "",
    ) -> None:
        self.kind = kind
        self.file = file
        self.problem = problem
        self.passed = False


class Copy:
    """Observes a copy. `sender` is given the data of the sending side, `receiver` that of the other side, as it comes.

    `is_lost`: something violated the protocol, and everything after that is ignored.
    """

    def __init__(self, asked: Asked, home: bytes) -> None:
        self._asked = asked
        self._home = home
        self._state = _State.RECORD
        self._line = bytearray()
        self._answer = bytearray()
        self._expected = deque([_Expected("ready")])
        self._directories: list[bytes] = []
        self._depth = 0
        self._file: _File | None = None
        self.is_lost = False

    def sender(self, data: bytes) -> list[Copied]:
        """Take more data of the sending side."""
        told: list[Copied] = []
        at = 0
        while at < len(data) and not self.is_lost:
            if self._expected:
                self._expected[-1].passed = True
            if self._state is _State.DECIDING:
                self._begin_data()
            elif self._state is _State.DATA and self._file is not None:
                moved = min(self._file.size - self._file.moved, len(data) - at)
                self._file.moved += moved
                at += moved
                if self._file.moved == self._file.size:
                    self._state = _State.STATUS
            elif self._state is _State.STATUS:
                self._state = _State.COMPLAINT
                if data[at] == 0:
                    at += 1
                    self._finish_file("")
            else:
                at = self._read_line(data, at, told)
        return told

    def receiver(self, data: bytes) -> list[Copied]:
        """Take more data of the receiving side: answers."""
        told: list[Copied] = []
        for number in data:
            if self.is_lost:
                break
            if self._answer:
                if number == ord("\n"):
                    text, self._answer = bytes(self._answer), bytearray()
                    self._answered(_text(text), told)
                else:
                    self._answer.append(number)
                    self.is_lost = len(self._answer) > MAX_LINE_BYTES
            elif number in {1, 2}:
                self._answer.append(number)
            elif number == 0:
                self._answered("", told)
            else:
                self.is_lost = True
        return told

    def end(self) -> list[Copied]:
        """Both sides have ended. Returns the files that were not finished."""
        waiting = [expected.file for expected in self._expected if expected.file is not None]
        if self._file is not None and self._file not in waiting:
            waiting.append(self._file)
        self._expected.clear()
        self._file = None
        return [file.told("unfinished") for file in waiting]

    # -- the sender ---------------------------------------------------------------------------------------------

    def _read_line(self, data: bytes, at: int, told: list[Copied]) -> int:
        end = data.find(b"\n", at)
        self._line += data[at : len(data) if end < 0 else end]
        if len(self._line) > MAX_LINE_BYTES:
            self.is_lost = True
        elif end >= 0:
            line, self._line = bytes(self._line), bytearray()
            if self._state is _State.COMPLAINT:
                self._finish_file(_text(line))
            else:
                self._record(line, told)
        return len(data) if end < 0 else end + 1

    def _record(self, line: bytes, told: list[Copied]) -> None:
        kind = line[:1]
        if kind in {b"\1", b"\2"}:  # it can't send something; that has no answer
            text = _text(line)
            if self._asked.source:
                path = absolute(
                    text.removeprefix("scp: ").rpartition(": ")[0].encode("utf-8", "surrogateescape"), self._home
                )
                told.append(Copied(path, b"", 0, text, opened=False))
        elif (match := _FILE.fullmatch(line)) is not None:
            self._file = _File(*self._place(match[2]), int(match[1]))
            self._expect(_Expected("file", self._file))
            self._state = _State.DECIDING
        elif (match := _DIRECTORY.fullmatch(line)) is not None:
            self._directories.append(match[1])
            self._depth += len(match[1]) + 1
            self._expect(_Expected("directory"))
        elif line == b"E":
            self._leave_directory()
            self._expect(_Expected("other"))
        elif _TIMES.fullmatch(line) is not None:
            self._expect(_Expected("other"))
        else:
            self.is_lost = True

    def _expect(self, answer: _Expected) -> None:
        self._expected.append(answer)
        if len(self._expected) > MAX_AHEAD or self._depth > MAX_DEPTH_BYTES:
            self.is_lost = True

    def _leave_directory(self) -> None:
        if self._directories:
            self._depth -= len(self._directories.pop()) + 1

    def _begin_data(self) -> None:
        self._state = _State.DATA if self._file is not None and self._file.size else _State.STATUS

    def _finish_file(self, problem: str) -> None:
        self._state = _State.RECORD
        self._expect(_Expected("done", self._file, problem))
        self._file = None

    def _place(self, name: bytes) -> tuple[bytes, bytes]:
        rest = b"/".join([*self._directories, name])
        words = self._asked.words
        if not self._asked.source:
            into = absolute(words[0], self._home)
            if self._asked.into or words[0].rpartition(b"/")[2] in {b"", b".", b"..", b"~"}:
                return into.rstrip(b"/") + b"/" + rest, b""
            return into, rest
        top = self._directories[0] if self._directories else name
        for word in words[:MAX_WORDS]:
            directory, slash, pattern = word.rstrip(b"/").rpartition(b"/")
            # Latin-1, because every byte is one character in it.
            if len(pattern) <= MAX_PATTERN_BYTES and fnmatchcase(top.decode("latin-1"), pattern.decode("latin-1")):
                return absolute(directory + slash + rest, self._home), b""
        return rest, b""

    # -- the receiver -------------------------------------------------------------------------------------------

    def _answered(self, problem: str, told: list[Copied]) -> None:
        if not self._expected:
            self.is_lost = True
            return
        answer = self._expected.popleft()
        if answer.file is not None and answer.kind == "done":
            told.append(answer.file.told(problem or answer.problem or "ok"))
        elif problem and answer.kind in {"file", "directory"} and answer.passed:
            self.is_lost = True  # the receiver would read the file's data as records, so the rest can't be followed
        elif problem and answer.file is not None:
            told.append(answer.file.told(problem, opened=False))
            self._file = None
            self._state = _State.RECORD
        elif problem and answer.kind == "directory":
            self._leave_directory()
        elif problem and answer.kind == "ready":
            told.append(Copied(absolute(self._asked.words[0], self._home), b"", 0, problem, opened=False))
        elif answer.kind == "file" and not answer.passed:
            self._begin_data()


def _text(line: bytes) -> str:
    """The text that follows a one or two."""
    return line[1:].decode("utf-8", "surrogateescape") or "failed"

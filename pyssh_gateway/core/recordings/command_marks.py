r"""The commands that were typed at a shell, where the shell marks them: best effort.

A shell that is set up for it says where its prompt begins (A) and ends (B), where a command begins to run (C) and that
it has ended (D), as FinalTerm has introduced it: OSC 133. Ours also say which command it is, as kitty's and fish's do:
`OSC 133;C;cmdline_url=<percent-encoded>`. VS Code's say all of it as OSC 633, with the command in E
(https://code.visualstudio.com/docs/terminal/shell-integration). Without that, the command is what stood between B and
C.

A program can print such marks, too, so what is found here is what the session's user wants to be found.
"""

import re

import msgspec

from pyssh_gateway.core.recordings.asciicast import Code, Event
from pyssh_gateway.core.recordings.sequences import TOKEN, Splitter

MAX_COMMAND = 4096
"""Of a longer command the rest is left out, in characters."""

MAX_EVERYTHING = 100_000
"""Commands of a recording: 30 days of one each half minute. What follows is left out."""

_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-fA-F]{2}))")


class Command(msgspec.Struct, frozen=True):
    """A command. Times are seconds since the recording began; `ended` and `status` are None if that is not known."""

    at: float
    text: str
    ended: float | None = None
    status: int | None = None


class CommandMarks:
    """Finds the commands of one recording, of which it is given all events."""

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._count = 0
        self._typed: _Line | None = None
        self._said = ""
        self._running: Command | None = None

    def feed(self, event: Event) -> list[Command]:
        """The commands that have ended."""
        if event.code != Code.OUTPUT:
            return []
        complete = self._splitter.feed(event.data)
        if "\x1b" not in complete and self._typed is None:
            return []
        found: list[Command] = []
        for match in TOKEN.finditer(complete):
            if (osc := match["osc"]) is not None:
                found += self._mark(event.at, osc)
            elif self._typed is not None:
                self._typed.show(match)
        return found

    def end(self) -> list[Command]:
        """The command that was running when the recording ended."""
        return self._ended(None, None)

    def _mark(self, at: float, osc: str) -> list[Command]:
        number, _, mark = osc.partition(";")
        if number not in {"133", "633"} or not mark:
            return []
        letter, _, rest = mark.partition(";")
        match letter:
            case "A":
                self._typed, self._said = None, ""
                return self._ended(at, None)
            case "B":
                self._typed = _Line()
            case "E" if number == "633":
                self._said = _unescaped(rest.partition(";")[0])
            case "C":
                return self._begun(at, _named(rest))
            case "D":
                status = rest.partition(";")[0]
                return self._ended(at, int(status) if re.fullmatch(r"[0-9]{1,3}", status, re.ASCII) else None)
        return []

    def _begun(self, at: float, named: str) -> list[Command]:
        before = self._ended(at, None)
        text = (named or self._said or (self._typed.text if self._typed is not None else "")).strip()
        self._typed, self._said = None, ""
        if text and self._count < MAX_EVERYTHING:
            self._count += 1
            self._running = Command(at, text[:MAX_COMMAND])
        return before

    def _ended(self, at: float | None, status: int | None) -> list[Command]:
        if self._running is None:
            return []
        ended = Command(self._running.at, self._running.text, at, status)
        self._running = None
        return [ended]


class _Line:
    """What is typed at a prompt, as the shell's line editor shows it: on one line, as if the terminal were wide."""

    def __init__(self) -> None:
        self._cells: list[str] = []
        self._at = 0

    @property
    def text(self) -> str:
        return "".join(self._cells)

    def show(self, match: re.Match[str]) -> None:
        """The next token of the output."""
        if match.lastgroup == "text":
            end = min(self._at + len(match[0]), MAX_COMMAND)
            self._cells[self._at : end] = match[0][: end - self._at]
            self._at = end
        elif match.lastgroup == "control" and match[0] == "\b":
            self._at = max(0, self._at - 1)
        elif match.lastgroup == "csi" and not match["between"]:
            self._edit(match["params"], match["final"])

    def _edit(self, params: str, final: str) -> None:
        count = int(params) if re.fullmatch(r"[0-9]{1,4}", params, re.ASCII) else 1
        match final:
            case "C":
                self._at = min(len(self._cells), self._at + count)
            case "D":
                self._at = max(0, self._at - count)
            case "K" | "J" if params in {"", "0"}:
                del self._cells[self._at :]
            case "P":
                del self._cells[self._at : self._at + count]
            case "@" if len(self._cells) + count <= MAX_COMMAND:
                self._cells[self._at : self._at] = " " * count


def _named(parameters: str) -> str:
    """The command that is named by the mark at its beginning."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name == "cmdline_url":
            text = value.encode("utf-8", "surrogatepass")
            return _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), text).decode("utf-8", "replace")
    return ""


def _unescaped(text: str) -> str:
    r"""A command as VS Code's shells write it: backslashes are doubled, semicolons and controls are `\xNN`."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else "\\", text)

"""Tests of the encoder and the decoder of recordings."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.recordings import asciicast
from pyssh_gateway.core.recordings.asciicast import Encoder, Event, Header
from pyssh_gateway.core.recordings.decoder import MAX_SECONDS, Decoder, NotACast, events

HEADER = Header(
    cols=80, rows=24, term="xterm-256color", timestamp=1_800_000_000, command="vim", title="t", env={"A": "b"}
)


def decoded(data: bytes) -> tuple[Header, list[Event], int]:
    """The header, the events and how many lines were broken."""
    first, *rest = data.splitlines(keepends=True)
    decoder = Decoder(first)
    found = list(events(decoder, rest))
    return decoder.header, found, decoder.broken


class TestEncoder:
    """What is written."""

    def test_version_3(self) -> None:
        """The header, and times as differences, as the format says."""
        to = Encoder()
        data = to.header(HEADER) + to.output(0.5, b"hi\r\n") + to.comment("a\nb") + to.input(0.75, b"\x03")
        data += to.resize(1.0, 100, 0) + to.marker(2.0, "here") + to.exit(2.5, 130)
        first, *lines = data.decode().splitlines()
        assert json.loads(first) == {
            "version": 3,
            "term": {"cols": 80, "rows": 24, "type": "xterm-256color"},
            "timestamp": 1_800_000_000,
            "command": "vim",
            "title": "t",
            "env": {"A": "b"},
        }
        assert lines == [
            '[0.500, "o", "hi\\r\\n"]',
            "# a b",
            '[0.250, "i", "\\u0003"]',
            '[0.250, "r", "100x1"]',
            '[1.000, "m", "here"]',
            '[0.500, "x", "130"]',
        ]

    def test_version_2(self) -> None:
        """Times from the beginning; what version 2 does not know is left out."""
        to = Encoder(version=2)
        data = to.header(HEADER) + to.output(0.5, b"hi") + to.comment("no") + to.output(0.75, b"!") + to.exit(1, 0)
        data += to.event(Event(2.0, "x", "0"))
        first, *lines = data.decode().splitlines()
        header = json.loads(first)
        assert (header["version"], header["width"], header["height"]) == (2, 80, 24)
        assert header["env"] == {"A": "b", "TERM": "xterm-256color"}
        assert lines == ['[0.500, "o", "hi"]', '[0.750, "o", "!"]']

    def test_a_character_split_across_reads_is_whole(self) -> None:
        """Each stream may be in the middle of a character; one whose rest never comes is U+FFFD."""
        to, text = Encoder(), "漢🦊".encode()
        data = to.header(HEADER)
        for byte in text:
            data += to.output(1, bytes([byte])) + to.output(1, b"e\xc3", stream="err")
        data += to.exit(2, 0)
        _, found, broken = decoded(data)
        shown = "".join(event.data for event in found if event.code == "o")
        assert shown.replace("\N{REPLACEMENT CHARACTER}", "").replace("e", "") == "漢🦊"
        assert shown.endswith("\N{REPLACEMENT CHARACTER}")
        assert found[-1] == Event(2.0, "x", "0")
        assert broken == 0

    @given(st.lists(st.floats(0, 1000), max_size=50))
    def test_times_do_not_drift(self, gaps: list[float]) -> None:
        """Whatever the gaps, each event is within half a millisecond of its time, and none is before the last."""
        to, at, times = Encoder(), 0.0, []
        data = to.header(HEADER)
        for gap in gaps:
            at += gap
            times.append(at)
            data += to.output(at, b".")
        _, found, _ = decoded(data)
        assert [event.at for event in found] == pytest.approx(times, abs=0.00051)

    def test_a_clock_that_goes_back(self) -> None:
        """A time before the last counts as the last."""
        to = Encoder()
        assert to.output(2, b"a") + to.output(1, b"b") == b'[2.000, "o", "a"]\n[0.000, "o", "b"]\n'

    @pytest.mark.parametrize("byte", [b"\0", b"\xff", b"x"])
    def test_lines_are_bounded(self, byte: bytes) -> None:
        """Any data gives lines that a reader takes, and nothing of it is lost."""
        to = Encoder()
        lines = to.output(1, byte * 200_000).splitlines()
        assert max(map(len, lines)) < asciicast.MAX_LINE
        assert sum(len(json.loads(line)[2]) for line in lines) == 200_000

    def test_missing_output(self) -> None:
        """A gap is a marker that a reader recognises; a character cut by it is ended."""
        to = Encoder()
        data = (
            to.header(HEADER)
            + to.output(1, b"a\xe6")
            + to.missing(2, 4096)
            + to.output(3, b"\xbcb")
            + to.marker(4, "x")
        )
        _, found, _ = decoded(data)
        assert [(event.code, event.data) for event in found] == [
            *[("o", "a"), ("o", "\ufffd"), ("m", "4096 bytes of output are missing here")],
            *[("o", "\ufffdb"), ("m", "x")],
        ]
        assert [asciicast.missing_bytes(event) for event in found] == [None, None, 4096, None, None]

    def test_hostile_header(self) -> None:
        """Texts of the header may be anything that a client sends."""
        hostile = "\udcff\ud800\n\x1b]0;x\x07</script>" + "y" * 10_000
        header = Header(cols=0, rows=2**31, term=hostile, command=hostile, env={hostile: hostile})
        line = Encoder().header(header)
        assert line.count(b"\n") == 1
        read = Decoder(line).header
        assert (read.cols, read.rows) == (1, 65535)
        assert read.command.startswith("\ufffd")
        assert len(read.command) <= asciicast.MAX_TEXT


class TestDecoder:
    """What is read."""

    @given(
        st.lists(st.tuples(st.floats(0, 100), st.sampled_from("oimr"), st.text()), max_size=20), st.sampled_from([2, 3])
    )
    def test_round_trip(self, given_events: list[tuple[float, str, str]], version: int) -> None:
        """What is written is read again, in both versions."""
        to, at = Encoder(version), 0.0
        data, written = to.header(HEADER), []
        for gap, code, text in given_events:
            at = round(at + gap, 3)
            written.append(Event(at, code, text.encode("utf-8", "replace").decode()))
            data += to.event(written[-1])
        header, found, broken = decoded(data)
        assert (header, broken) == (HEADER, 0)
        assert [(e.code, e.data) for e in found] == [(e.code, e.data) for e in written]
        assert [e.at for e in found] == pytest.approx([e.at for e in written], abs=0.001)

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"\n",
            b"[]",
            b"{",
            b'{"version": 1, "width": 80, "height": 24}',
            b'{"version": 3}',
            b'{"version": 3, "term": {"cols": 0, "rows": 24}}',
            b'{"version": 3, "term": {"cols": 80, "rows": 24e30}}',
            b'{"version": 2, "width": "80", "height": 24}',
            b'{"version": 3, "term": {"cols": 80, "rows": 24}, "command": "\xff"}',
            b"[" * 100_000,
            b" " * (asciicast.MAX_LINE + 1),
        ],
    )
    def test_no_header(self, line: bytes) -> None:
        """A first line that is no header is refused."""
        with pytest.raises(NotACast):
            Decoder(line)

    @pytest.mark.parametrize(
        "line",
        [
            b'[1.0, "o"]',
            b'[1.0, "o", "x", 1]',
            b'[-1.0, "o", "x"]',
            b'[1e999, "o", "x"]',
            b'["1.0", "o", "x"]',
            b'[1.0, "oo", "x"]',
            b'[1.0, "", "x"]',
            b'[1.0, "\\"", "x"]',
            b'[1.0, "o\\n", "x"]',
            b'[1.0, "o", "\xff"]',
            b'[1.0, "o", "cut o',
            b'{"a": 1}',
            b'[%d.0, "o", "x"]' % (MAX_SECONDS + 1),
            b'[1.0, "o", "' + b"x" * asciicast.MAX_LINE + b'"]',
        ],
    )
    def test_broken_lines_are_left_out(self, line: bytes) -> None:
        """A broken line hides no other, moves no time and is counted."""
        data = Encoder().header(HEADER) + b'# c\n\n[1.0, "o", "a"]\n' + line + b'\n[1.0, "z", "b"]\n'
        assert decoded(data)[1:] == ([Event(1.0, "o", "a"), Event(2.0, "z", "b")], 1)

    def test_optional_fields(self) -> None:
        """Fields that are absent or null, and unknown ones."""
        assert Decoder(b'{"version": 3, "term": {"cols": 1, "rows": 2, "type": null}, "tags": []}').header == Header(
            cols=1, rows=2
        )

    @pytest.mark.parametrize(
        ("data", "size"),
        [
            ("80x24", (80, 24)),
            ("1x65535", (1, 65535)),
            ("0x24", None),
            ("80x65536", None),
            ("80x", None),
            ("80", None),
            ("-8x24", None),
            ("²x24", None),
            ("999999x1", None),
        ],
    )
    def test_sizes(self, data: str, size: tuple[int, int] | None) -> None:
        """Only the size of a terminal is one."""
        assert asciicast.size(Event(0, "r", data)) == size
        assert asciicast.size(Event(0, "o", data)) is None

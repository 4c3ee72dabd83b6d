"""Text from the network cannot act on the terminal of a person who reads the log, or forge a line in it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyssh_gateway.core.printable import KEPT_HEAD, KEPT_TAIL, MAX_TEXT, printable, screen_text

# Every code point, with the dangerous ones often, and lone surrogates, which stand for undecodable bytes.
ANY_CHARACTER = st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]) | st.sampled_from("\\nxu")
ANY_TEXT = st.text(alphabet=ANY_CHARACTER, max_size=200)
ANY_BYTES = st.binary(max_size=200)

ESCAPE = re.compile(r"\\(?:\\|n|r|t|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def original(shown: str) -> str:
    """Read the escapes of `printable` back, which proves that nothing was lost."""

    def char(match: re.Match[str]) -> str:
        byte, short, long = match.groups()
        if byte is not None:
            code = int(byte, 16)
            return chr(code if code < 0x80 else 0xDC00 + code)
        if short or long:
            return chr(int(short or long, 16))
        return {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\t": "\t"}[match[0]]

    return ESCAPE.sub(char, shown)


@pytest.mark.parametrize("text", ["", "make test", "ssh-ed25519", "café", "你好", "Ελλάδα", "\N{GRINNING FACE}"])
def test_what_people_write_stays(text: str) -> None:
    """Names and commands in any script stay readable, without escapes and without a copy."""
    assert printable(text) is text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x7f", r"\x7f"),
        ("C:\\n", r"C:\\n"),
        ("\x9b31m", r"\u009b31m"),
        (b"caf\xe9 \x9b31m".decode("utf-8", "surrogateescape"), r"caf\xe9 \x9b31m"),
        ("\ud800", r"\ud800"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u00a0\u200b\ufeff", r"\u00a0\u200b\ufeff"),
        ("\ue000\U000e0041\U0010ffff", r"\ue000\U000e0041\U0010ffff"),
    ],
)
def test_what_acts_or_hides_is_shown(text: str, shown: str) -> None:
    """Control characters, bidi overrides, invisible characters and undecodable bytes get their documented escapes."""
    assert printable(text) == shown


@given(ANY_TEXT)
@example("\\x1b\x1b")
@example("\x80\udc80")
def test_the_original_can_be_read_back(text: str) -> None:
    """Two different texts never look the same in the log."""
    assert original(printable(text)) == text


@given(ANY_BYTES)
def test_bytes_survive(data: bytes) -> None:
    """The bytes that a client sent, valid UTF-8 or not, can be recovered from the log."""
    shown = printable(data.decode("utf-8", "surrogateescape"))
    assert original(shown).encode("utf-8", "surrogateescape") == data


@given(st.text(alphabet=ANY_CHARACTER, max_size=2 * MAX_TEXT) | ANY_BYTES.map(lambda data: str(data, "latin-1")))
def test_nothing_unprintable_is_left(text: str) -> None:
    """For any input the output is valid UTF-8 without control, format or surrogate characters."""
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown


@given(ANY_TEXT)
def test_a_traceback_keeps_its_lines_and_nothing_else(text: str) -> None:
    """With newlines kept, no other control character is kept."""
    shown = printable(text, keep_newlines=True)
    assert shown.count("\n") == text.count("\n")
    assert shown.replace("\n", "").isprintable()


def test_a_long_text_keeps_both_ends() -> None:
    """A long field cannot fill the disk, or hide its end behind a wall of spaces."""
    text = "head" + " " * MAX_TEXT + "tail"
    shown = printable(text)
    assert shown.startswith("head ")
    assert shown.endswith(" tail")
    assert r"\[8 characters cut]" in shown
    assert len(shown) == KEPT_HEAD + len(r"\[8 characters cut]") + KEPT_TAIL


def test_the_longest_text_is_whole() -> None:
    """A text of exactly the maximum length is not cut."""
    assert printable("x" * MAX_TEXT) == "x" * MAX_TEXT


def test_the_cut_mark_cannot_be_forged() -> None:
    """A client that sends the cut mark as text gets it escaped."""
    assert printable(r"\[8 characters cut]") == r"\\[8 characters cut]"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"plain\ttext\n", b"plain\ttext\n"),
        (b"dos\r\nlines\r\n", b"dos\nlines\n"),
        (b"over\rwritten", b"overwritten"),
        (b"\x1b[1;31mred\x1b[0m", b"\x1b[1;31mred\x1b[0m\x1b[0m"),
        (b"\x1b[38:2::1:2:3mred", b"\x1b[38:2::1:2:3mred\x1b[0m"),
        (b"a\x1b[2Jb\x1b[?1049hc\x1b[6nd", b"abcd"),
        (b"a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c", b"abc"),
        (b"a\x1bPq#0\x1b\\b\x1b_Gi=1\x1b\\c", b"abc"),
        (b"a\x1bcb\x1b(0c\x1b", b"abc"),
        (b"a\x1b[" + b"1;" * 40 + b"mb", b"ab"),
        (b"a\x1b[31\x00mb", b"a31mb"),
        (b"a\x07\x08\x00\x7fb", b"ab"),
        (b"a\xc2\x9b2Jb", b"a2Jb"),
        ("a\u202eb\u2066c".encode(), b"abc"),
        (b"caf\xe9", "caf\ufffd".encode()),
    ],
)
def test_of_a_program_s_text_only_colours_act(written: bytes, shown: bytes) -> None:
    """Protects terminals from the output of scripts: only colours remain, and no title, clipboard or cursor control."""
    assert screen_text(written) == shown


@given(
    st.lists(st.sampled_from([b"\x1b", b"[", b"]", b"0", b";", b"m", b"J", b"\x07", b"\\", b"P", b"\xc2\x9b", b"x"]))
)
def test_nothing_is_left_of_any_sequence_but_colours(parts: list[bytes]) -> None:
    """Protects from a sequence that arises when another one is removed from its middle."""
    text = screen_text(b"".join(parts))
    assert b"\x1b" not in re.sub(rb"\x1b\[[0-9;:]{0,32}m", b"", text)
    assert screen_text(text) in {text, text + b"\x1b[0m"}

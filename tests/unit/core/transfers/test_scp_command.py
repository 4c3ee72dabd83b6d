"""Which commands are the remote side of an scp copy, and how they are parsed, compared with a real shell."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway.core.transfers.scp_command import options, parse
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (b"scp -t .", [b"scp", b"-t", b"."]),
        (b"scp -v -r -p -d -t -- -x", [b"scp", b"-v", b"-r", b"-p", b"-d", b"-t", b"--", b"-x"]),
        (b"scp -pf a  b\tc", [b"scp", b"-pf", b"a", b"b", b"c"]),
        (b"scp -qrt ''", [b"scp", b"-qrt", b""]),
        (b'scp -f "a b" c\\ d \'e"f\'g', [b"scp", b"-f", b"a b", b"c d", b'e"fg']),
        (b'scp -f "a\\"b\\c\\$d"', [b"scp", b"-f", b'a"b\\c$d']),
        (b"scp -f \xff\xc3\xa4", [b"scp", b"-f", b"\xff\xc3\xa4"]),
        (b"scp -f a*b '*'c \\? \"[x]\"", [b"scp", b"-f", b"a*b", b"[*]c", b"[?]", b"[[]x]"]),
        (b"scp -f ~/a '~/b' \\~c a~", [b"scp", b"-f", b"~/a", b"./~/b", b"./~c", b"a~"]),
        (b"scp -f a{b}c 'a{b,c}' a#b", [b"scp", b"-f", b"a{b}c", b"a{b,c}", b"a#b"]),
        (b"scp -f 'a;b' \"x|y\" 'a\nb'", [b"scp", b"-f", b"a;b", b"x|y", b"a\nb"]),
    ],
)
def test_commands_of_clients_are_taken_apart(command: bytes, argv: list[bytes]) -> None:
    """Commands of OpenSSH, pscp, libssh2 and others are parsed with their quoting; quoted wildcards are no patterns."""
    assert parse(command) == argv


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"scp",
        b"scp -t",
        b"scp -f",
        b"scp a host:b",
        b"scp -t -f x",
        b"scp -S prog -t x",
        b"scp -oProxyCommand=x -t x",
        b"scpx -t .",
        b"/tmp/scp -t .",
        b"X=1 scp -t .",
        b"exec scp -t .",
        b"scp -t .; id",
        b"scp -t . && id",
        b"scp -t . | id",
        b"scp -t . > x",
        b"scp -t . < x",
        b"scp -t $HOME",
        b"scp -t `id`",
        b'scp -t "$HOME"',
        b'scp -t "`id`"',
        b"scp -t (x)",
        b"scp -t .\nid",
        b"scp -t .\\\nx",
        b"scp -t a\\",
        b"scp -t 'a",
        b'scp -t "a',
        b'scp -t "a\\',
        b"scp -t . # x",
        b"scp -f a{b,c}",
        b"scp -f a{1..3}",
        b"scp -t a\0b",
        b"scp -t 'a\0b'",
        b"scp -t a\\\0b",
    ],
)
def test_what_needs_a_shell_is_not_taken(command: bytes) -> None:
    """Any other command is left to the login shell, since guessing would do something that nobody asked for."""
    assert parse(command) is None


@given(st.text(alphabet="ab '\"\\/.-~{},$;#=", max_size=12))
@settings(max_examples=150, deadline=None)
def test_words_are_the_shells(text: str) -> None:
    """A parsed command means the same as to the shell (words only, without patterns and tildes)."""
    command = b"scp -f -- x" + text.encode()
    argv = parse(command)
    if argv is None:
        return
    script = 'scp() { printf "%s\\0" scp "$@"; }\n' + command.decode()
    shell = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, timeout=PATIENCE, cwd="/")
    assert argv == [word.replace(b"./~", b"~") for word in shell.stdout.split(b"\0")[:-1]] or b"~" in command


def test_options_are_read_as_scp_reads_them() -> None:
    """Options may come in any order, bundled or not, up to `--`."""
    asked = options([b"scp", b"-pr", b"-v", b"-d", b"-t", b"--", b"-x"])
    assert asked is not None
    assert (asked.source, asked.recursive, asked.preserve, asked.directory, asked.verbose) == (False, *[True] * 4)
    assert asked.words == (b"-x",)
    asked = options([b"scp", b"-f", b"-", b"a"])
    assert asked is not None
    assert asked.source
    assert asked.words == (b"-", b"a")

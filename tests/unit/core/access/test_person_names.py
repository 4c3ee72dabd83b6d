"""Names made from comments and key ids: every character is visible, and no two texts have the same name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.access.person_names import MAX_NAME, visible_name
from pyssh_gateway.events import Identity

ANY_TEXT = st.text(max_size=2 * MAX_NAME) | st.binary(max_size=60).map(lambda b: b.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("amos@laptop", "amos@laptop"),
        ("jörg@büro", "jörg@büro"),
        ("山田太郎", "山田太郎"),
        ("dora's old key", "dora's␣old␣key"),
        ("dora's_old_key", "dora's_old_key"),
        ("a␣b", "a<U+2423>b"),
        ("Amos <amos@example.com>", "Amos␣<amos@example.com>"),
        ("<U+202E>", "<U+003C>U+202E>"),
        ("\u202esoma", "<U+202E>soma"),
        ("a\tb\x1b[2J", "a<U+0009>b<U+001B>[2J"),
        ("\u3000\u200b", "<U+3000><U+200B>"),
        ("j\udcfcrg", "j<0xFC>rg"),
        ("<0xFC>", "<U+003C>0xFC>"),
        ("", ""),
    ],
)
def test_what_people_are_called(text: str, name: str) -> None:
    """Umlauts and CJK stay; spaces, control characters and other invisible ones get a visible form."""
    assert visible_name(text) == name


def test_long_names_differ_by_their_ends() -> None:
    """A name that is cut still differs by what was cut off."""
    one, other = visible_name("x" * 500 + "1"), visible_name("x" * 500 + "2")
    assert len(one) == len(other) == MAX_NAME
    assert one != other
    assert visible_name("x" * MAX_NAME) == "x" * MAX_NAME


@given(ANY_TEXT, ANY_TEXT)
def test_two_texts_have_two_names(one: str, other: str) -> None:
    """Two persons never have the same shown name."""
    assert (visible_name(one) == visible_name(other)) == (one == other)


@given(ANY_TEXT)
def test_names_can_be_shown(text: str) -> None:
    """A name is safe for terminals and logs, and for scripts that split at spaces."""
    name = visible_name(text)
    assert name.isprintable()
    assert not any(char.isspace() for char in name)
    assert len(name) <= MAX_NAME
    name.encode()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Identity("github:amos", 1, "SHA256:a"), Identity("github:amos", 1, "SHA256:b"), True),
        (Identity("github:amos", 1, "SHA256:a"), Identity("github:renamed", 1, "SHA256:a"), True),
        (Identity("github:amos", 1, "SHA256:a"), Identity("github:amos", 2, "SHA256:a"), False),
        (Identity("gitlab:amos", None, "SHA256:a"), Identity("gitlab:amos", None, "SHA256:b"), True),
        (Identity("ca:amos", None, "SHA256:a"), Identity("ca:amos", None, "SHA256:b"), True),
        (Identity("file:key", None, "SHA256:a"), Identity("file:key", None, "SHA256:b"), False),
        (Identity("file:new", None, "SHA256:a"), Identity("file:old", None, "SHA256:a"), True),
        (Identity("url:https://x", None, "SHA256:a"), Identity("url:https://x", None, "SHA256:b"), False),
    ],
)
def test_who_is_the_same(one: Identity, other: Identity, same: bool) -> None:
    """Two keys are two persons, unless their source says whose they are."""
    assert (one.known_by == other.known_by) is same

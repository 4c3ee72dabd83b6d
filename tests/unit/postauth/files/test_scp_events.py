"""postauth.files.scp_events: which files a command names, by the words that its shell would make of it."""

from pyssh_gateway.postauth.files.scp_events import MAX_PARSED_BYTES, asked


def test_words_of_a_command_are_taken_apart_up_to_a_length() -> None:
    """A client may send 128 KiB, and everybody waits while they are looked at: a longer one is told as it came."""
    several, long = asked(b"scp -f 'a b' c"), b"a " * (MAX_PARSED_BYTES // 2) + b"c"
    assert several is not None
    assert several.words == (b"a b", b"c")
    whole = asked(b"scp -f " + long)
    assert whole is not None
    assert whole.words == (long,)

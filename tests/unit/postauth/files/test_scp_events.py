"""postauth.files.scp_events: the files that a command names, split into words as its shell would."""

from pyssh_gateway.postauth.files.scp_events import MAX_PARSED_BYTES, asked


def test_words_of_a_command_are_taken_apart_up_to_a_length() -> None:
    """Only commands up to a length are split, as splitting 128 KiB would block others; longer ones stay whole."""
    several, long = asked(b"scp -f 'a b' c"), b"a " * (MAX_PARSED_BYTES // 2) + b"c"
    assert several is not None
    assert several.words == (b"a b", b"c")
    whole = asked(b"scp -f " + long)
    assert whole is not None
    assert whole.words == (long,)

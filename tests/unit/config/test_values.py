"""How single values are written: what each kind accepts and what it refuses."""

import math
from datetime import date
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config import values
from pyssh_gateway.config.values import Duration, UnfitError, check_source_spec, format_duration, shown

HOUR = 3600
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("60s", 60),
        ("5m", 300),
        ("8h", 8 * HOUR),
        ("1d", DAY),
        ("250ms", 0.25),
        ("1h30m", HOUR + 1800),
        ("1d2h3m4s5ms", DAY + 2 * HOUR + 184.005),
        ("1.5h", 1.5 * HOUR),
        ("90", 90),
        ("0.5", 0.5),
        (90, 90),
        (0.5, 0.5),
        (Duration(5), 5),
        (0, 0),
        ("0s", 0),
    ],
)
def test_durations_are_read_as_people_write_them(written: object, seconds: float) -> None:
    """The documentation's notations give the right number of seconds."""
    read = values.duration(0, values.YEAR)(written)
    assert read == pytest.approx(seconds)
    assert isinstance(read, Duration)


@pytest.mark.parametrize(
    "written",
    [
        *("", "-5s", "5 m", "5M", "m", "30m1h", "1h1h", "1.h", "5s\n", "\u0665s", "1w", "off", True, None, [], {}),
        *(-5, -0.5, math.nan, math.inf, -math.inf, 10**400, "9" * 400, "9" * 400 + "d", "366d"),
    ],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    """Nothing is guessed: a wrong unit, order, sign or type is refused and never becomes a number of seconds."""
    with pytest.raises(UnfitError, match=r"^a duration from 0s to 365d, such as 15s, 5m or 1h30m$"):
        values.duration(0, values.YEAR)(written)


def test_a_duration_s_limits_are_part_of_it() -> None:
    """Both limits are allowed, and a duration beyond them is refused with the limits named."""
    read = values.duration(10, 300)
    assert (read("10s"), read("5m")) == (Duration(10), Duration(300))
    for beyond in ("9s", "301s"):
        with pytest.raises(UnfitError, match="a duration from 10s to 5m,"):
            read(beyond)


@pytest.mark.parametrize("written", ["off", 0, 0.0, "0", "0s", "0h0m"])
def test_a_duration_can_be_turned_off(written: object) -> None:
    """Zero and "off" mean never, not at once."""
    assert values.duration_or_off(written) is None


def test_a_duration_that_can_be_turned_off_is_otherwise_one() -> None:
    """Only the documented values turn a duration off."""
    assert values.duration_or_off("5m") == Duration(300)
    for wrong in ("OFF", "", False, None, -1, "never"):
        with pytest.raises(UnfitError, match=r'or "off"$'):
            values.duration_or_off(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (5, "5s"),
        (1.5, "1.5s"),
        (59.999, "59.999s"),
        (60, "1m"),
        (61.25, "1m1.25s"),
        (HOUR + 1800, "1h30m"),
        (DAY, "1d"),
        (400 * DAY + 1, "400d1s"),
        (-90, "-1m30s"),
    ],
)
def test_durations_are_shown_as_people_write_them(seconds: float, text: str) -> None:
    """Messages use the units that the configuration uses."""
    assert format_duration(seconds) == text


@given(st.integers(0, values.YEAR * 1000))
def test_a_shown_duration_reads_back_as_itself(milliseconds: int) -> None:
    """A duration can be copied from a message into the configuration."""
    seconds = milliseconds / 1000
    assert values.duration(0, values.YEAR)(format_duration(seconds)) == pytest.approx(seconds, abs=0.0001)


@given(st.text() | st.from_regex(r"[0-9.dhms ]{1,12}", fullmatch=True) | st.floats() | st.integers())
def test_no_input_breaks_the_reading_of_durations(written: object) -> None:
    """Any input is a duration within the limits or is refused."""
    try:
        assert 0 <= values.duration(0, values.YEAR)(written) <= values.YEAR
    except UnfitError:
        assert values.duration_or_off("off") is None


@pytest.mark.parametrize(
    "spec",
    [
        "github:example",
        "github:a",
        "github:Ex-am-ple9",
        "github:" + "a" * 39,
        "github:mona-",
        "github:-DNA-",
        "github:gil--",
        "github:mona-lisa_example",
        "github:example#583231",
        "github:" + "a" * 39 + "#" + "9" * 18,
        "github-team:example/site-ops",
        "github-team:Ex-ample/9_to_5",
        "gitlab:amos.b_c-d",
        "gitlab:_amos",
        "codeberg:Amos.b_c-d",
        "launchpad:amos+test",
        "sourcehut:_amos-b",
        "file:/data/keys/breakglass.pub",
        "file:/with a space/\u00e9",
        "ca:/etc/ssh/users-ca.pub",
        "url:https://keys.example.com/team?format=ssh",
        "url:https://[2001:db8::1]:8443/keys",
        "url:http://127.0.0.1:8000/keys",
        "url:http://127.8.8.8/keys",
        "url:http://[::1]/keys",
        "url:http://localhost/keys",
    ],
)
def test_well_formed_sources_have_no_problem(spec: str) -> None:
    """Every documented kind of source is accepted as it is written."""
    assert check_source_spec(spec) is None
    assert values.source_spec(spec) == spec


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("", '"github:<login>", "github-team:<organisation>/<team>", "gitlab'),
        ("example", '"github:<login>", "github-team'),
        ("GITHUB:example", '"github:<login>", "github-team'),
        ("gopher:x", '"github:<login>", "github-team'),
        ("ssh-ed25519 AAAA", '"github:<login>", "github-team'),
        ("github:", "a GitHub login"),
        ("github:-", "a GitHub login"),
        ("github:@a", "a GitHub login"),
        ("github:_a", "a GitHub login"),
        ("github:a_", "a GitHub login"),
        ("github:a_b_c", "a GitHub login"),
        ("github:a.b", "a GitHub login"),
        ("github:a%2Fb", "a GitHub login"),
        ("github:a?b", "a GitHub login"),
        ("github:a#", "a GitHub login"),
        ("github:a#0", "a GitHub login"),
        ("github:a#012", "a GitHub login"),
        ("github:a#-1", "a GitHub login"),
        ("github:a#1#2", "a GitHub login"),
        ("github:a#\u0661", "a GitHub login"),
        ("github:a#" + "1" * 19, "a GitHub login"),
        ("github:#1", "a GitHub login"),
        ("github:a/b", "a GitHub login"),
        ("github:..", "a GitHub login"),
        ("github:a\n", "a GitHub login"),
        ("github:\u00e9", "a GitHub login"),
        ("github:" + "a" * 40, "a GitHub login"),
        ("github:" + "a" * 40 + "#1", "a GitHub login"),
        ("github-team:example", '"<organisation>/<team>" after "github-team:"'),
        ("github-team:/ops", '"<organisation>/<team>"'),
        ("github-team:example/", '"<organisation>/<team>"'),
        ("github-team:example/..", '"<organisation>/<team>"'),
        ("github-team:../ops", '"<organisation>/<team>"'),
        ("github-team:example/a/b", '"<organisation>/<team>"'),
        ("github-team:example/a?per_page=1", '"<organisation>/<team>"'),
        ("github-team:example#1/ops", '"<organisation>/<team>"'),
        ("github-team:example/Site Ops", '"<organisation>/<team>"'),
        ("gitlab:", "a GitLab login"),
        ("gitlab:group/sub", "a GitLab login"),
        ("gitlab:..", "a GitLab login"),
        ("gitlab:a#1", "a GitLab login"),
        ("gitlab:~a", "a GitLab login"),
        ("gitlab:" + "a" * 256, "a GitLab login"),
        ("codeberg:", "a Codeberg login"),
        ("codeberg:.a", "a Codeberg login"),
        ("codeberg:a/b", "a Codeberg login"),
        ("codeberg:" + "a" * 41, "a Codeberg login"),
        ("launchpad:", "a Launchpad login"),
        ("launchpad:Amos", "a Launchpad login"),
        ("launchpad:~~a", "a Launchpad login"),
        ("launchpad:../a", "a Launchpad login"),
        ("launchpad:a/+sshkeys", "a Launchpad login"),
        ("sourcehut:~", "a SourceHut login"),
        ("sourcehut:9a", "a SourceHut login"),
        ("sourcehut:a.b", "a SourceHut login"),
        ("sourcehut:" + "a" * 31, "a SourceHut login"),
        ("file:", "an absolute path"),
        ("file:keys.pub", "an absolute path"),
        ("file:~/keys.pub", "an absolute path"),
        ("file:/a\0b", "an absolute path"),
        ("file:/a\nb", "an absolute path"),
        ("ca:", "an absolute path"),
        ("ca:keys.pub", 'an absolute path after "ca:"'),
        ("ca:/a\nb", "an absolute path"),
        ("url:", "an https:// address"),
        ("url:keys.example.com", "an https:// address"),
        ("url:https:keys", "an https:// address"),
        ("url:https:///keys", "an https:// address"),
        ("url:ftp://example.com/", "an https:// address"),
        ("url:http://example.com/", "an https:// address"),
        ("url:http://127.0.0.1.example.com/", "an https:// address"),
        ("url:http://128.0.0.1/", "an https:// address"),
        ("url:http://localhost@example.com/", "an https:// address"),
        ("url:https://user:secret@example.com/", "an https:// address"),
        ("url:https://example.com/#keys", "an https:// address"),
        ("url:https://example.com:port/", "an https:// address"),
        ("url:https://[::1/", "an https:// address"),
        ("url:https://exam ple.com/", "an https:// address"),
        ("url:https://exam\tple.com/", "an https:// address"),
        ("url:https://example.com\\@evil.example/", "an https:// address"),
        ("url:https://\u00e9.example/", "an https:// address"),
    ],
)
def test_a_source_that_is_none_is_refused_with_what_it_should_look_like(spec: str, problem: str) -> None:
    """No source reaches the code that fetches keys if it could mean another account, path or unprotected address."""
    found = check_source_spec(spec)
    assert found is not None
    assert found.startswith(f"expected {problem}")
    assert found.endswith(f", got {shown(spec)}")
    assert found.isprintable()


KINDS = ["github:", "github-team:", "gitlab:", "codeberg:", "launchpad:", "sourcehut:", "file:", "ca:", "url:"]


@pytest.mark.parametrize("kind", ["launchpad", "sourcehut"])
def test_a_tilde_before_a_login_is_not_part_of_it(kind: str) -> None:
    """A login copied with the tilde that some sites show is the same source as one without."""
    assert check_source_spec(f"{kind}:~amos") is None
    assert values.source_spec(f"{kind}:~amos") == f"{kind}:amos"


@given(st.text() | st.sampled_from(KINDS).flatmap(lambda s: st.text().map(s.__add__)))
def test_any_text_is_a_source_or_has_a_printable_problem(spec: str) -> None:
    """Any text is a source or gives an error that is safe to show on a terminal."""
    assert (check_source_spec(spec) or "").isprintable()


@given(st.sampled_from(KINDS[:6]), st.text("aB1-_.~+/#%?&=:@\\ \n\u00e9", max_size=12))
def test_no_login_leads_to_another_address(kind: str, rest: str) -> None:
    """A login that is accepted stays one segment of a URL: it has no delimiter and does not consist of dots."""
    if check_source_spec(kind + rest) is not None:
        return
    kept = values.source_spec(kind + rest)
    assert check_source_spec(kept) is None
    assert values.source_spec(kept) == kept
    path = kept.partition(":")[2].partition("#")[0] if kind == "github:" else kept.partition(":")[2]
    segments = path.split("/")
    assert len(segments) == (2 if kind == "github-team:" else 1)
    for segment in segments:
        assert quote(segment, safe="+") == segment
        assert segment.strip(".")


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://github.com", "https://github.com"),
        ("https://ghe.example.com/", "https://ghe.example.com"),
        ("https://proxy.example.com/github/", "https://proxy.example.com/github"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_a_base_url_has_no_slash_at_its_end(written: str, url: str) -> None:
    """`<base>/<login>.keys` is the right URL, with and without a slash at the base's end."""
    assert values.base_url(written) == url


@pytest.mark.parametrize(
    "written", ["", "github.com", "http://github.com", "https://github.com?x", "https://github.com/#x", 1, None]
)
def test_an_unprotected_or_misshapen_base_url_is_refused(written: object) -> None:
    """Keys are never fetched over a connection that others could change."""
    with pytest.raises(UnfitError, match="an https:// address without query or fragment"):
        values.base_url(written)


def test_whole_numbers_are_neither_booleans_nor_text() -> None:
    """`port = true` is a mistake, not port 1."""
    read = values.whole_number(0, 9)
    assert (read(0), read(9)) == (0, 9)
    for wrong in (-1, 10, True, 1.0, "1", None):
        with pytest.raises(UnfitError, match=r"^a whole number from 0 to 9$"):
            read(wrong)


def test_a_choice_names_its_alternatives() -> None:
    """An error about a word lists the words that are allowed."""
    read = values.choice("auto", "human", "json")
    assert read("json") == "json"
    wrongs: tuple[object, ...] = ("xml", "", 1, [])
    for wrong in wrongs:
        with pytest.raises(UnfitError, match=r"^auto, human or json$"):
            read(wrong)


@pytest.mark.parametrize(
    "name", ["amos", "joe@corp.example", r"CORP\joe", "joe smith", "1000", ".x", "$svc", "~", "a" * 255]
)
def test_accounts_that_exist_have_the_names_that_they_have(name: str) -> None:
    """Names of existing accounts, such as a directory's, are accepted as they are."""
    assert values.existing_account(name) == name


@pytest.mark.parametrize(
    "name", ["", "-rf", " a", "a ", "a:b", "a/b", "a\n", "a\tb", "a\0", "\x7f", "\u00e9", "a" * 256, 1000, None]
)
def test_what_no_account_can_be_called_is_refused(name: object) -> None:
    """Options, paths, passwd field separators and names that no client could send are refused as account names."""
    with pytest.raises(UnfitError, match=r"^the name of a Unix account"):
        values.existing_account(name)


@pytest.mark.parametrize("name", ["amos", "_apt", "Build.Bot-2", "1password", "a" * 32])
def test_account_names_are_what_unix_has(name: str) -> None:
    """Every account name that common systems create is accepted for an account to be made."""
    assert values.account_name(name) == name


@pytest.mark.parametrize("name", ["", "-rf", ".x", "a b", "a:b", "a/b", "a\n", "\u00e9", "1000", "a" * 33, 1000, None])
def test_what_cannot_be_an_account_name_is_refused(name: object) -> None:
    """Uids, options, paths and passwd field separators are refused as account names."""
    with pytest.raises(UnfitError, match=r"^the name of a Unix account"):
        values.account_name(name)


@pytest.mark.parametrize("path", ["keys", "/data/keys", "./~odd", "with space"])
def test_directories_are_taken_as_written(path: str) -> None:
    """Both relative and absolute paths name directories."""
    assert values.directory(path) == path


@pytest.mark.parametrize("path", ["", "~/keys", "~", "a\0b", 1, None])
def test_what_cannot_be_a_directory_is_refused(path: object) -> None:
    """A tilde is refused, since it would silently make a directory of that name."""
    with pytest.raises(UnfitError, match=r"^the path of a directory"):
        values.directory(path)


def test_an_address_is_a_literal() -> None:
    """A name is refused: resolving it could hold up the start."""
    assert values.listen_address("::") == "::"
    for wrong in ("localhost", "[::", "", 0):
        with pytest.raises(UnfitError, match=r"^an IPv4 or IPv6 address"):
            values.listen_address(wrong)


def test_several_addresses_are_a_list_or_have_commas() -> None:
    """The environment has no lists, so commas separate addresses; the error shows how to write several."""
    both = ("0.0.0.0:22", "[::]:22")
    assert values.listen_address(list(both)) == both
    assert values.listen_address("0.0.0.0:22, [::]:22") == both
    assert values.listen_address("[::]") == ("[::]",)
    for wrong in (["localhost:22"], [], ["::1", "::1"], "127.0.0.1,", [22]):
        with pytest.raises(UnfitError, match=r'^addresses such as "0\.0\.0\.0:2222" and "\[::\]:2222", each once$'):
            values.listen_address(wrong)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ssh", '"ssh"'),
        ("\x1b[2J\udc80", '"\\x1b[2J\\udc80"'),
        ("x" * 100, '"' + "x" * 60 + '..."'),
        (True, "true"),
        (False, "false"),
        (70000, "70000"),
        pytest.param(16**5000, "a number too long to show", id="huge"),
        pytest.param(-(16**5000), "a number too long to show", id="huge and negative"),
        (math.nan, "nan"),
        ({}, "a table"),
        ([1], "a list"),
        ((), "a list"),
        (date(2026, 8, 1), "a date"),
    ],
)
def test_errors_quote_values_in_the_file_s_own_words(value: object, text: str) -> None:
    """A value in an error is recognisable, short, and safe on a terminal."""
    assert shown(value) == text

"""core.access.key_options: the meaning of each option of a key line, and which options are refused."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from pyssh_gateway.core.access.key_options import (
    MAX_OPTIONS,
    MAX_PRINCIPALS,
    MAX_TUNNEL,
    NO_OPTIONS,
    KeyOptions,
    KeyOptionsError,
    parse_options,
)

RESTRICTED = KeyOptions(pty=False, port_forwarding=False, agent_forwarding=False, x11_forwarding=False, user_rc=False)


def why_refused(text: bytes) -> str:
    """The reason for which these options are refused."""
    with pytest.raises(KeyOptionsError) as caught:
        parse_options(text)
    assert str(caught.value).isprintable()
    return str(caught.value)


def utc(*parts: int) -> float:
    """The Unix time of a date and a time of day in UTC."""
    year, month, day, hour, minute, second = (*parts, 0, 0, 0)[:6]
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


# -- switches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (b"", NO_OPTIONS),
        (b"restrict", RESTRICTED),
        (b"no-pty", KeyOptions(pty=False)),
        (b"no-port-forwarding", KeyOptions(port_forwarding=False)),
        (b"no-agent-forwarding", KeyOptions(agent_forwarding=False)),
        (b"no-X11-forwarding", KeyOptions(x11_forwarding=False)),
        (b"no-user-rc", KeyOptions(user_rc=False)),
        (b"no-touch-required", KeyOptions(touch_required=False)),
        (b"verify-required", KeyOptions(verify_required=True)),
        (b"cert-authority", KeyOptions(cert_authority=True)),
        (b"pty,port-forwarding,agent-forwarding,X11-forwarding,user-rc,touch-required,no-verify-required", NO_OPTIONS),
        (b"restrict,user-rc", msgspec.structs.replace(RESTRICTED, user_rc=True)),
        (b"restrict,pty", msgspec.structs.replace(RESTRICTED, pty=True)),
        (b"restrict,port-forwarding", msgspec.structs.replace(RESTRICTED, port_forwarding=True)),
        (b"restrict,agent-forwarding", msgspec.structs.replace(RESTRICTED, agent_forwarding=True)),
        (b"restrict,X11-forwarding", msgspec.structs.replace(RESTRICTED, x11_forwarding=True)),
        (b"pty,restrict", RESTRICTED),
        (b"no-pty,pty,no-pty", KeyOptions(pty=False)),
        (b"verify-required,no-verify-required,verify-required", KeyOptions(verify_required=True)),
        (b"no-touch-required,touch-required", NO_OPTIONS),
        (b"ReStRiCt,PTY", msgspec.structs.replace(RESTRICTED, pty=True)),
        (b"NO-x11-FORWARDING", KeyOptions(x11_forwarding=False)),
    ],
)
def test_switches(text: bytes, options: KeyOptions) -> None:
    """Protects each option without a value, in any case of letters; of two that contradict, the later one counts."""
    assert parse_options(text) == options


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"foo", "unknown option foo"),
        (b"Foo", "unknown option foo"),
        (b"restrictx", "unknown option restrictx"),
        (b"no-restrict", "unknown option no-restrict"),
        (b"no-cert-authority", "unknown option no-cert-authority"),
        (b'no-command="x"', "unknown option no-command"),
        (b'agent="no"', "unknown option agent"),
        (b"no-", "unknown option no-"),
        (b"a" * 5000, "unknown option " + "a" * 40),
        (b'restrict="yes"', "restrict takes no value"),
        (b'cert-authority=""', "cert-authority takes no value"),
        (b'no-pty="yes"', "no-pty takes no value"),
        (b"command", 'command needs a value: command="..."'),
        (b"pty,from", 'from needs a value: from="..."'),
        (b"pty,", "a name is missing"),
        (b",pty", "a name is missing"),
        (b"pty,,pty", "a name is missing"),
        (b",", "a name is missing"),
        (b"pty, restrict", "a name is missing"),
        (b" pty", "a name is missing"),
        (b'"pty"', "a name is missing"),
        (b"\xff", "a name is missing"),
        (b"pty restrict", "after pty a comma is missing"),
        (b'command="a"b', "after command a comma is missing"),
        (b'command="echo "a""', "after command a comma is missing"),
        (b'command="a" ,pty', "after command a comma is missing"),
        (b"command=a", "the value of command is not in a pair of quotation marks"),
        (b"command=", "the value of command is not in a pair of quotation marks"),
        (b'command="a', "the value of command is not in a pair of quotation marks"),
        (b'command="a\\"', "the value of command is not in a pair of quotation marks"),
        (b"command='a'", "the value of command is not in a pair of quotation marks"),
        (b'command= "a"', "the value of command is not in a pair of quotation marks"),
        (b'command ="a"', 'command needs a value: command="..."'),
        (b'command="a\0b"', "there is a NUL in them"),
        (b"restrict\0", "there is a NUL in them"),
    ],
)
def test_refuses_what_it_does_not_understand(text: bytes, reason: str) -> None:
    """A misspelt option, which was to keep somebody out, refuses its key, and the reason names it."""
    assert why_refused(text).startswith(reason)


def test_takes_a_bounded_number() -> None:
    """A line with thousands of options cannot block the loop that serves everybody."""
    assert parse_options(b",".join([b"no-pty"] * MAX_OPTIONS)) == KeyOptions(pty=False)
    assert why_refused(b",".join([b"no-pty"] * (MAX_OPTIONS + 1))) == f"there are more than {MAX_OPTIONS}"


# -- command and environment --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "command"),
    [
        (b"", b""),
        (b"dump /home, then \xff", b"dump /home, then \xff"),
        (rb"echo \"a\"", b'echo "a"'),
        (rb"a\b\\c\n", rb"a\b\\c\n"),
        (rb"a\\\"b", b'a\\\\"b'),
        (b"a\tb\r", b"a\tb\r"),
        (b"a=b,no-pty # c", b"a=b,no-pty # c"),
    ],
)
def test_command(value: bytes, command: bytes) -> None:
    r"""Protects `command=`: its bytes are kept, except that \" becomes a bare quotation mark (opt_dequote)."""
    assert parse_options(b'Command="' + value + b'",no-pty') == KeyOptions(command=command, pty=False)


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        (b'environment="A=b"', ((b"A", b"b"),)),
        (b'environment="A="', ((b"A", b""),)),
        (b'environment="_a1=b=c \\"d\\""', ((b"_a1", b'b=c "d"'),)),
        (b'environment="A=\xff\x1b"', ((b"A", b"\xff\x1b"),)),
        (b'environment="A=1",environment="B=2"', ((b"A", b"1"), (b"B", b"2"))),
        (b'environment="A=1",environment="B=2",environment="A=3"', ((b"A", b"1"), (b"B", b"2"))),
        (b'environment="XLD_A=1",environment="ld_a=1"', ((b"XLD_A", b"1"), (b"ld_a", b"1"))),
    ],
)
def test_environment(text: bytes, environment: tuple[tuple[bytes, bytes], ...]) -> None:
    """Protects `environment=`: each variable is set, and of two with the same name the first counts, as in sshd."""
    assert parse_options(text) == KeyOptions(environment=environment)


@pytest.mark.parametrize(
    "setting", [b"", b"A", b"=b", b"A-B=c", b"A B=c", b"\xc3\xa4=b", b"A.B=c", b"LD_PRELOAD=/x.so", b"LD_=x"]
)
def test_environment_that_is_none(setting: bytes) -> None:
    """Protects forced commands from variables that load other code, and sessions from invalid names."""
    assert why_refused(b'environment="' + setting + b'"').startswith("environment=")


@pytest.mark.parametrize(
    "text",
    [
        b'command="hunter2"x',
        b'command="hunter2",command="hunter2"',
        b'environment="A-B=hunter2"',
        b'environment="hunter2"',
        b'environment="LD_A=hunter2"',
        b'environment="A=hunter2"hunter2',
        b'environment="A=hunter2',
        b"environment=hunter2",
        b'environment="A="hunter2"',
        b'environment="A=hunter2","hunter2"',
    ],
)
def test_quotes_no_secrets(text: bytes) -> None:
    """Protects passwords in commands and variables from the log."""
    assert "hunter2" not in why_refused(text)


# -- from ---------------------------------------------------------------------------------------------------------


def test_from() -> None:
    """Protects `from=`: its patterns are kept in their order."""
    text = b'from="10.0.0.0/8,!10.1.*,2001:db8::1,*.example.org"'
    assert parse_options(text).source == ("10.0.0.0/8", "!10.1.*", "2001:db8::1", "*.example.org")


@pytest.mark.parametrize("value", [b"", b"10.0.0.1,", b"10.0.0.1/8", b"10.0.0.0/33", b"10.1", b"!a.example", b"a\xff"])
def test_from_that_is_malformed(value: bytes) -> None:
    """A malformed pattern in `from=` refuses its key, so that nobody gets in who was to be kept out."""
    assert why_refused(b'from="' + value + b'"').startswith("from=")


@pytest.mark.parametrize("name", ["command", "from", "principals"])
def test_what_may_be_there_once(name: str) -> None:
    """Two commands or lists of one kind refuse their key, since it is not defined how they combine."""
    once = f'{name}="10.0.0.1"'.encode()
    assert parse_options(once) != NO_OPTIONS
    assert why_refused(once + b"," + once) == f"there are two {name}="


# -- permitopen and permitlisten ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "permit"),
    [
        ("localhost:80", "localhost:80"),
        ("192.0.2.1:65535", "192.0.2.1:65535"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("[::1]:*", "[::1]:*"),
        ("[localhost]:1", "localhost:1"),
        ("*:80", "*:80"),
        ("*:*", "*:*"),
        ("::1/80", None),
        ("h:080", "h:080"),
        ("DB.example:5432", "DB.example:5432"),
        ("localhost", None),
        ("localhost:", None),
        (":80", None),
        ("[]:80", None),
        ("[::1:80", None),
        ("::1:80", None),
        ("localhost:0", None),
        ("localhost:65536", None),
        ("localhost:100000", None),
        ("localhost:-1", None),
        ("localhost:http", None),
        ("localhost:8\u0660", None),
        ("local host:80", None),
        ("a:80,b:80", None),
        ("a:80 ", None),
        ("", None),
        ("x" * 255 + ":1", "x" * 255 + ":1"),
        ("x" * 256 + ":1", None),
        ("a\tb:80", None),
    ],
)
def test_permits(value: str, permit: str | None) -> None:
    """Protects `permitopen=` and `permitlisten=`: host and port are normalised, and anything ambiguous is refused."""
    for name in ("permitopen", "permitlisten"):
        text = f'{name}="{value}"'.encode()
        if permit is None:
            assert why_refused(text).startswith(f"{name}=")
        else:
            options = parse_options(text)
            assert (*options.permit_open, *options.permit_listen) == (permit,)


def test_permits_add_up() -> None:
    """Several permits of one kind form a list, and each kind has its own."""
    text = b'permitopen="a:1",permitlisten="8080",permitopen="b:2",permitlisten="*",permitlisten="[::1]:1"'
    options = KeyOptions(permit_open=("a:1", "b:2"), permit_listen=("*:8080", "*:*", "[::1]:1"))
    assert parse_options(text) == options
    assert parse_options(b'permitopen="localhost/80"').permit_open == ("localhost:80",)
    assert why_refused(b'permitopen="8080"').startswith("permitopen=")
    assert why_refused(b'permitlisten="0"').startswith("permitlisten=")


# -- expiry-time --------------------------------------------------------------------------------------------------


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose local time is an hour ahead of UTC in winter, and two in summer."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("value", "expires"),
    [
        ("20300101Z", utc(2030, 1, 1)),
        ("20300101", utc(2029, 12, 31, 23)),
        ("203007011200", utc(2030, 7, 1, 10)),
        ("203007011200Z", utc(2030, 7, 1, 12)),
        ("20300701120059", utc(2030, 7, 1, 10, 0, 59)),
        ("20300701120059Z", utc(2030, 7, 1, 12, 0, 59)),
        ("20300701120059z", utc(2030, 7, 1, 12, 0, 59)),
        ("20300101utc", utc(2030, 1, 1)),
        ("20280229Z", utc(2028, 2, 29)),
        ("99991231235959Z", utc(9999, 12, 31, 23, 59, 59)),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_expiry_time(value: str, expires: float) -> None:
    """Protects the end of a key: in UTC with a Z, else in the machine's local time, also in summer."""
    assert parse_options(f'expiry-time="{value}"'.encode()) == KeyOptions(expires=expires)


def test_earliest_expiry_time() -> None:
    """Of several ends the earliest counts."""
    times = [b'expiry-time="20320101Z"', b'expiry-time="20300101Z"', b'expiry-time="20310101Z"']
    assert parse_options(b",".join(times)).expires == utc(2030, 1, 1)


@pytest.mark.parametrize(
    "value",
    [
        *("", "Z", "never", "2030", "203001", "2030010", "203001011", "2030010112", "203001011200591", "+1d"),
        *("20300001", "20301301", "20300100", "20300132", "20300231", "20290229", "203001012400", "203001011260"),
        *(
            "20300101120060",
            "20300101 ",
            " 20300101",
            "20300101ZZ",
            "20300101+0100",
            "2030-01-01",
            "\u0662\u0660300101",
        ),
        *("19700101Z", "19691231Z", "00000101", "00010101", "00010101Z"),
    ],
)
def test_expiry_time_that_is_none(value: str) -> None:
    """A key whose expiry date is mistyped or does not exist is refused, or it would be valid for ever."""
    assert why_refused(f'expiry-time="{value}"'.encode()).startswith("expiry-time=")


def test_time_beyond_the_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local time at the end of the calendar, whose UTC time is beyond it, is refused and raises nothing else."""
    monkeypatch.setenv("TZ", "XXX+12")
    time.tzset()
    try:
        assert why_refused(b'expiry-time="99991231235959"').startswith("expiry-time=")
    finally:
        monkeypatch.undo()
        time.tzset()


# -- principals and tunnel ----------------------------------------------------------------------------------------


def test_principals() -> None:
    """Protects `principals=`: names are kept as they are written, with blanks, any letters and their case."""
    assert parse_options('principals="amos,Ä b,*"'.encode()).principals == ("amos", "Ä b", "*")


@pytest.mark.parametrize("value", [b"", b",", b"a,", b",a", b"a,,b", b"a\nb", b"\xff", b"\x1b[31m"])
def test_principals_that_are_none(value: bytes) -> None:
    """An empty name is refused, which an empty name in a certificate would match."""
    assert why_refused(b'principals="' + value + b'"').startswith("principals=")


def test_takes_a_bounded_number_of_principals() -> None:
    """Protects each login with a certificate from a long list to compare."""
    names = [f"n{number}" for number in range(MAX_PRINCIPALS + 1)]
    assert parse_options(f'principals="{",".join(names[:-1])}"'.encode()).principals == tuple(names[:-1])
    assert "more than" in why_refused(f'principals="{",".join(names)}"'.encode())


@pytest.mark.parametrize("value", ["0", "7", "any", "ANY", str(MAX_TUNNEL)])
def test_tunnel(value: str) -> None:
    """Protects key files with `tunnel=`, which changes nothing here: their keys are accepted."""
    assert parse_options(f'tunnel="{value}"'.encode()) == NO_OPTIONS


@pytest.mark.parametrize("value", ["", "-1", "x", "1:2", " 1", str(MAX_TUNNEL + 1), "9" * 5000])
def test_tunnel_that_is_none(value: str) -> None:
    """Values of `tunnel=` that sshd refuses are refused."""
    assert why_refused(f'tunnel="{value}"'.encode()).startswith("tunnel=")

"""The whole configuration: its defaults, reporting every mistake at once, and agreement with the documentation."""

import re
import tomllib
import typing
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.sizes import Size, format_size
from pyssh_gateway.config.source import LISTS_AS_TEXT, ConfigError, RawConfig, endpoints_of, listen_endpoints, read
from pyssh_gateway.config.types import Config, Idle, Listen, Login
from pyssh_gateway.config.values import Duration, format_duration
from tests.support.places import ROOT

FILE = "/etc/pyssh-gateway/config.toml"
DOCUMENT = ROOT / "docs" / "configuration.md"


def from_file(text: str) -> RawConfig:
    """The result of reading a file with this text."""
    values = tomllib.loads(text)
    return RawConfig(values, dict.fromkeys(values, FILE), FILE)


def problems_in(raw: RawConfig) -> list[str]:
    """The problems that parsing `raw` reports."""
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    return list(caught.value.problems)


def entry_of(kind: object) -> type[msgspec.Struct] | None:
    """The type of a list of tables' entries, such as `[[login]]`."""
    if typing.get_origin(kind) is tuple:
        entry = typing.get_args(kind)[0]
        if isinstance(entry, type) and issubclass(entry, msgspec.Struct):
            return entry
    return None


def without_nothing(value: object) -> object:
    """`value` without None, which a file cannot have."""
    if isinstance(value, dict):
        return {name: without_nothing(below) for name, below in value.items() if below is not None}
    return value


def leaves(kind: type[msgspec.Struct] = Config, path: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Every key without keys below it, with `login[]` for the entries of a list."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from leaves(field.type, f"{path}{field.name}.")
        elif (entry := entry_of(field.type)) is not None:
            yield from leaves(entry, f"{path}{field.name}[].")
        else:
            yield path + field.name, field


LEAVES = dict(leaves())


def test_nothing_configured_is_the_defaults() -> None:
    """A machine without any configuration has the documented values, and nobody may log in."""
    assert parse(RawConfig({}, {}, None)) == Config()
    assert Config().login == ()


def test_every_default_would_be_accepted() -> None:
    """Every default obeys the rules for configured values."""
    plain = msgspec.to_builtins(Config(), enc_hook=lambda value: type(value).__bases__[0](value))
    assert parse(RawConfig(typing.cast(dict[str, Any], without_nothing(plain)), {}, None)) == Config()


def test_a_secret_is_never_shown() -> None:
    """A token appears neither in an error about it nor in a configuration that is printed."""
    (problem,) = problems_in(RawConfig({"keys": {"github_token": "hush hush"}}, {}, FILE))
    assert "keys.github_token: expected a token" in problem
    assert "hush" not in problem
    config = parse(RawConfig({"keys": {"github_token": "hush"}}, {}, None))
    assert config.keys.github_token == "hush"
    assert "hush" not in repr(config)


@pytest.mark.parametrize(
    ("keys", "api"),
    [
        ({}, "https://api.github.com"),
        ({"github_url": "https://ghe.example.com/"}, "https://ghe.example.com/api/v3"),
        ({"github_api_url": "https://api.example.com"}, "https://api.example.com"),
    ],
)
def test_the_api_is_the_one_of_the_same_github(keys: dict[str, object], api: str) -> None:
    """Account numbers are asked of the same GitHub as the keys."""
    assert parse(RawConfig({"keys": keys}, {}, None)).keys.github_api == api


def test_a_whole_file_is_read() -> None:
    """Every table of a real file is read into its typed field."""
    config = parse(
        from_file("""
            account = "gateway"
            keys_dir = "/data/keys"
            [listen]
            address = "::"
            port = 22
            [[login]]
            user = "amos"
            keys = ["github:example", "file:/data/keys/breakglass.pub"]
            [[login]]
            user = "build"
            keys = ["url:https://keys.example.com/build"]
            [idle]
            timeout = "1h30m"
            [keys]
            github_url = "https://ghe.example.com/"
        """)
    )
    assert config.listen == Listen(address="::", port=22)
    assert config.login == (
        Login(user="amos", keys=("github:example", "file:/data/keys/breakglass.pub")),
        Login(user="build", keys=("url:https://keys.example.com/build",)),
    )
    assert config.idle == Idle(timeout=Duration(5400))
    assert config.keys.github_url == "https://ghe.example.com"
    assert (config.account, config.keys_dir, config.audit_dir) == ("gateway", "/data/keys", "audit")


def test_the_idle_timeout_can_be_off() -> None:
    """A machine that never stops is configured with one word, "off"."""
    assert parse(from_file('[idle]\ntimeout = "off"')).idle.timeout is None


def test_text_from_the_environment_becomes_what_the_key_wants() -> None:
    """The environment overrides numbers and durations although it has only text."""
    environ = {
        "PYSSH_GATEWAY_LISTEN__PORT": "2022",
        "PYSSH_GATEWAY_IDLE__TIMEOUT": "0",
        "PYSSH_GATEWAY_STOP__DRAIN": "1m",
        "PYSSH_GATEWAY_KEYS_DIR": "2222",
    }
    config = parse(read(None, environ, {"limits.auth_attempts": "3"}, "/nonexistent"))
    assert (config.listen.port, config.idle.timeout, config.stop.drain) == (2022, None, Duration(60))
    assert (config.keys_dir, config.limits.auth_attempts) == ("2222", 3)


def from_environment(**given: str) -> RawConfig:
    """A configuration made by the environment alone: `IDLE__TIMEOUT="5m"`."""
    return read(None, {f"PYSSH_GATEWAY_{name}": value for name, value in given.items()}, {}, "")


@pytest.mark.parametrize(
    ("name", "given", "means"),
    [
        ("LISTEN__TRUSTED_PROXIES", "172.16.0.0/12, fdaa::/16", ("172.16.0.0/12", "fdaa::/16")),
        ("LIMITS__PENALTY_EXEMPT", "", ()),
        ("HOST_KEYS__TYPES", "ed25519,rsa", ("ed25519", "rsa")),
        ("SESSION__ACCEPT_ENV", "LANG", ("LANG",)),
        ("IDLE__SCHEDULE", "mon-fri 08:00-18:00,sat 09:00-12:00", ("mon-fri 08:00-18:00", "sat 09:00-12:00")),
    ],
)
def test_lists_without_commas_in_them_come_from_the_environment_too(
    name: str, given: str, means: tuple[str, ...]
) -> None:
    """A container that is configured by variables alone can set such lists, for example its proxies."""
    table, key = name.lower().split("__")
    config = parse(from_environment(**{name: given}))
    assert getattr(getattr(config, table), key) == means


def test_a_list_from_the_environment_takes_the_place_of_the_files(tmp_path: Path) -> None:
    """A list from the environment replaces the file's; its entries are checked as the file's are."""
    file = tmp_path / "config.toml"
    file.write_text('host_keys.types = ["ecdsa"]')
    raw = read(str(file), {"PYSSH_GATEWAY_HOST_KEYS__TYPES": "rsa,dsa,"}, {})
    origin = "(from environment PYSSH_GATEWAY_HOST_KEYS__TYPES)"
    assert problems_in(raw) == [
        f'host_keys.types[1]: expected ed25519, ecdsa or rsa, got "dsa" {origin}',
        f'host_keys.types[2]: expected ed25519, ecdsa or rsa, got "" {origin}',
    ]
    (problem,) = problems_in(from_environment(HOST_KEYS__TYPES=" "))
    assert problem == f"host_keys.types: expected at least one entry, got an empty list {origin}"


@pytest.mark.parametrize("name", ["LOGIN", "STOP__HOOKS", "BOOT__SERVICE"])
def test_a_list_that_only_the_file_can_have_says_so(name: str) -> None:
    """The error for a list that no variable can set says so, so that nobody guesses a spelling."""
    path = name.lower().replace("__", ".")
    assert problems_in(from_environment(**{name: "x, y"})) == [
        f"{path}: is a list, which only the configuration file can set (from environment PYSSH_GATEWAY_{name})"
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("IDLE_TIMEOUT", "IDLE__TIMEOUT"),
        ("IDLE__TIMOUT", "IDLE__TIMEOUT"),
        ("LISTEN_TRUSTED_PROXIES", "LISTEN__TRUSTED_PROXIES"),
        ("KEY_DIR", "KEYS_DIR"),
    ],
)
def test_a_variable_that_is_nearly_right_is_told_which_one_is(name: str, meant: str) -> None:
    """A single underscore instead of two is a common mistake, and the error names the right variable."""
    (problem,) = problems_in(from_environment(**{name: "1"}))
    assert f"unknown key, did you mean PYSSH_GATEWAY_{meant}? (from environment PYSSH_GATEWAY_{name})" in problem
    (problem,) = problems_in(from_environment(COLOUR="1"))
    assert problem.startswith("colour: unknown key, known here: listen, login, ")


def test_every_mistake_is_listed_at_once() -> None:
    """One start of the server lists every mistake, in words that a person understands."""
    raw = from_file("""
        keys_dir = ""
        account = 7
        idel = {timeout = 5}
        [listen]
        address = "localhost"
        port = "22"
        [[login]]
        user = "amos"
        keys = ["github:example", "example", 5]
        [[login]]
        keys = []
        [[login]]
        user = "amos"
        keys = "github:example"
        [idle]
        timout = "60s"
        timeout = -1
        [limits]
        unauthenticated = 5
        login_grace = "soon"
        "we\\u001bird" = true
        [log]
        format = "xml"
        [keys]
        refresh = "5s"
        timeout = 1979-05-27
        [stop]
        drain = "10m"
    """)
    raw.origins["listen.port"] = "environment PYSSH_GATEWAY_LISTEN__PORT"
    raw.values["listen"] = {"address": "localhost", "port": "ssh"}
    known = (
        "login_grace, signature_grace, auth_attempts, unauthenticated, unauthenticated_per_source, "
        "sessions_per_connection, early_drop_start, early_drop_rate, "
        "penalties, penalty_min, penalty_max, penalty_exempt"
    )
    source = (
        '"github:<login>", "github-team:<organisation>/<team>", "gitlab:<login>", "codeberg:<login>", '
        '"launchpad:<login>", "sourcehut:<login>", "url:https://...", "file:<absolute path>" or "ca:<absolute path>"'
    )
    account = "the name of a Unix account (ASCII without slash and colon, no hyphen in front)"
    at_most = "at most limits.unauthenticated, which is 5"
    assert problems_in(raw) == [
        f'idel: unknown key, did you mean "idle"? (from {FILE})',
        f'listen.address: expected an IPv4 or IPv6 address such as 0.0.0.0 or ::, got "localhost" (from {FILE})',
        'listen.port: expected a whole number from 0 to 65535, got "ssh" (from environment PYSSH_GATEWAY_LISTEN__PORT)',
        f'login[0].keys[1]: expected {source}, got "example" (from {FILE})',
        f"login[0].keys[2]: expected {source}, got 5 (from {FILE})",
        f"login[1].user: missing (from {FILE})",
        f"login[1].keys: expected at least one entry, got an empty list (from {FILE})",
        f'login[2].keys: expected a list in square brackets, got "github:example" (from {FILE})',
        f'keys.refresh: expected a duration from 10s to 365d, such as 15s, 5m or 1h30m, got "5s" (from {FILE})',
        f"keys.timeout: expected a duration from 1ms to 1m, such as 15s, 5m or 1h30m, got a date (from {FILE})",
        f'idle.timout: unknown key, did you mean "timeout"? (from {FILE})',
        f'idle.timeout: expected a duration such as 60s, 5m or 1h30m, or "off", got -1 (from {FILE})',
        f'limits."we\\x1bird": unknown key, known here: {known} (from {FILE})',
        f'limits.login_grace: expected a duration from 1ms to 10m, such as 15s, 5m or 1h30m, got "soon" (from {FILE})',
        f'stop.drain: expected a duration from 0s to 5m, such as 15s, 5m or 1h30m, got "10m" (from {FILE})',
        f'log.format: expected auto, human or json, got "xml" (from {FILE})',
        f"account: expected {account}, got 7 (from {FILE})",
        f'keys_dir: expected the path of a directory (~ is not expanded), got "" (from {FILE})',
        f"limits.unauthenticated_per_source: expected {at_most}, got 10 (from the default)",
        f'login[2].user: "amos" is login[0].user already, list all its keys there (from {FILE})',
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen = 22", "listen: expected a table, got 22"),
        ("login = 'amos'", 'login: expected tables, each headed [[login]], got "amos"'),
        ("[login]\nuser = 'amos'", "login: expected tables, each headed [[login]], got a table"),
        ("login = ['amos']", 'login[0]: expected a table, got "amos"'),
        ("listen.port = true", "listen.port: expected a whole number from 0 to 65535, got true"),
        ("listen.port = '22'", 'listen.port: expected a whole number from 0 to 65535, got "22"'),
    ],
)
def test_a_value_of_the_wrong_shape_is_told_in_toml_s_words(text: str, problem: str) -> None:
    """A table, list or scalar in the wrong place is answered with the right TOML."""
    assert problems_in(from_file(text)) == [f"{problem} (from {FILE})"]


def test_a_value_without_a_known_origin_is_told_without_one() -> None:
    """A configuration that is made in code is checked as any other, and its errors name no origin."""
    assert problems_in(RawConfig({"listen": 22}, {}, None)) == ["listen: expected a table, got 22"]


def test_a_limit_that_is_wrong_itself_is_not_compared() -> None:
    """One mistake makes one line: a limit that is no number is not compared with the other limit."""
    assert len(problems_in(from_file("limits.unauthenticated = 'many'\nlimits.unauthenticated_per_source = 99"))) == 1


@pytest.mark.parametrize("proxies", ["", "\nlisten.trusted_proxies = []"])
def test_headers_are_believed_of_somebody_or_of_nobody(proxies: str) -> None:
    """Enabling PROXY headers requires the addresses of the proxies; a wrong list is reported once."""
    (line,) = problems_in(from_file(f"listen.proxy_protocol = 'v2'{proxies}"))
    assert line.startswith("listen.trusted_proxies: missing, and listen.proxy_protocol is on")
    assert line.endswith(f"(from {FILE})")
    for wrong in ("proxy.example", "172.16.0.1/12", "fe80::1%eth0"):
        (line,) = problems_in(from_file(f"listen.proxy_protocol = 'v2'\nlisten.trusted_proxies = ['{wrong}']"))
        assert line.startswith("listen.trusted_proxies[0]: expected an address, or a network")
    config = parse(from_file("listen.proxy_protocol = 'v2'\nlisten.trusted_proxies = ['172.16.0.0/12', '::1']"))
    assert config.listen.trusted_proxies == ("172.16.0.0/12", "::1/128")
    assert parse(from_file("")).listen.proxy_protocol == "off"


def test_more_places_per_source_than_places_is_a_mistake() -> None:
    """The limit for each source may not exceed the limit for all, or it would have no effect."""
    (line,) = problems_in(from_file("limits.unauthenticated = 20\nlimits.unauthenticated_per_source = 21"))
    assert line.startswith("limits.unauthenticated_per_source: expected at most limits.unauthenticated, which is 20")
    assert parse(from_file("limits.unauthenticated = 20\nlimits.unauthenticated_per_source = 20"))


def test_what_begins_ends_later() -> None:
    """Each start value is at most its maximum: early drop's, and penalties'; defaults adapt to a smaller maximum."""
    (line,) = problems_in(from_file("limits.unauthenticated = 20\nlimits.early_drop_start = 21"))
    assert (
        line == f"limits.early_drop_start: expected at most limits.unauthenticated, which is 20, got 21 (from {FILE})"
    )
    (line,) = problems_in(from_file("limits.penalty_max = '1m'\nlimits.penalty_min = '61s'"))
    assert line.startswith('limits.penalty_min: expected at most limits.penalty_max, which is 1m, got "1m1s"')
    assert parse(from_file("limits.unauthenticated_per_source = 5\nlimits.unauthenticated = 5"))
    assert parse(from_file("limits.penalty_max = '5s'"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stop.action = 'command'", "stop.command: missing"),
        (f"stop.warn = {['true'] * 9}", "stop.warn: expected at most 8 entries, got 9"),
        ("stop.warn = ['https://']", "stop.warn[0]: expected the address of a webhook"),
        ("stop.warn = ['https://me:secret@hooks.example/']", "stop.warn[0]: expected the address of a webhook"),
        ("stop.warn = ['https://hooks.example/a b']", "stop.warn[0]: expected the address of a webhook"),
        ("stop.warn = [' ']", "stop.warn[0]: expected a command, or the address of a webhook"),
        ("boot.service = [{name = 'a', command = 'x'}, {name = 'a', command = 'y'}]", 'boot.service: "a" is the name'),
    ],
)
def test_what_belongs_together_is_there_together(text: str, problem: str) -> None:
    """Protects against incomplete or contradictory settings, which would silently do nothing."""
    (line,) = problems_in(from_file(text))
    assert line.startswith(problem)
    assert "secret" not in line


@given(st.sets(st.sampled_from(sorted(LEAVES)), min_size=1))
def test_every_wrong_key_is_named_by_its_path(wrong: set[str]) -> None:
    """For any number of wrong keys, each has one line that starts with its path, and no other key has one."""
    entries: dict[str, dict[str, object]] = {
        "login[]": {"user": "amos", "keys": ["github:example"]},
        "boot.link[]": {"path": "/a", "target": "/b"},
        "boot.directory[]": {"path": "/a"},
        "boot.account[]": {"user": "amos"},
        "boot.service[]": {"name": "dockerd", "command": "dockerd"},
    }
    boot = {name.removeprefix("boot.").removesuffix("[]"): [entries[name]] for name in entries if name != "login[]"}
    values: dict[str, Any] = {"login": [entries["login[]"]], "boot": boot}
    for path in wrong:
        table, _, key = path.rpartition(".")
        place = entries.get(table) or (values.setdefault(table, {}) if table else values)
        place[key] = {}
    named = [line.split(": expected ")[0] for line in problems_in(RawConfig(values, {}, None))]
    assert sorted(named) == sorted(path.replace("[]", "[0]") for path in wrong)


NAMES = st.sampled_from(sorted({name for path in LEAVES for name in re.split(r"\W+", path)}))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(1, 100)
    | st.just(16**400)
    | st.floats()
    | st.text()
    | st.sampled_from(["5m", "off", "::1", "amos", "github:example", "url:https://[", "2222", "json"])
    | st.just(date(2026, 8, 1))
)
TREES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=4) | st.dictionaries(NAMES | st.text(), below, max_size=6)
)
RAWS = st.builds(
    RawConfig,
    st.dictionaries(NAMES | st.text(), TREES, max_size=6),
    st.dictionaries(st.sampled_from(sorted(LEAVES)), st.sampled_from([FILE, "environment X", "command line"])),
    st.none(),
)


@given(RAWS)
def test_whatever_is_configured_is_a_config_or_printable_problems(raw: RawConfig) -> None:
    """Any input gives a configuration or problems, whose lines a terminal can show."""
    try:
        parse(raw)
    except ConfigError as error:
        problems = error.problems
    else:
        return
    assert problems
    assert all(line.isprintable() for line in problems)


PORTS = st.integers(-1, 70000) | st.integers().map(str) | SCALARS
PLAIN_ADDRESSES = st.ip_addresses().map(str) | st.from_regex(r"[0-9a-f.:%,\[\]]{1,12}", fullmatch=True) | SCALARS
ADDRESSES = PLAIN_ADDRESSES | st.lists(PLAIN_ADDRESSES, max_size=3)


@given(
    st.fixed_dictionaries({}, optional={"address": ADDRESSES, "port": PORTS}),
    st.dictionaries(st.just("listen.port"), st.sampled_from([FILE, "environment X", "command line"])),
)
def test_the_address_that_is_bound_early_is_the_one_that_is_configured(
    listen: dict[str, object], origins: dict[str, str]
) -> None:
    """If the check passes, the socket that was bound before has the right address; else there is no socket."""
    raw = RawConfig({"listen": listen}, origins, None)
    try:
        checked = parse(raw).listen
    except ConfigError:
        assert listen_endpoints(raw) is None
    else:
        assert listen_endpoints(raw) == endpoints_of(checked.address, checked.port)


def documented_default(value: object) -> str:
    """A default as the documentation writes it."""
    match value:
        case None:
            return "off"
        case Duration():
            return f'"{format_duration(value)}"'
        case Size():
            return f'"{format_size(value)}"'
        case bool():
            return str(value).lower()
        case tuple():
            return "`, `".join(value) or "[]"
        case _:
            return str(value) or "empty"


DEFAULTS_OF_OTHERS = {
    "idle.boot_grace": "timeout",
    "login[].forward_sockets": "as forwarding",
    "login[].forward_agent": "as forwarding.agent",
    "login[].forward_x11": "as forwarding.x11",
    "login[].record": "as audit.record",
}
"""Keys that have the value of another key until they are set."""


def test_the_documentation_has_every_key() -> None:
    """docs/configuration.md lists exactly the keys that exist, with their defaults and environment names."""
    rows = re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    documented = {key: (default.strip("` "), name.strip("` ")) for key, default, name in rows}
    assert len(documented) == len(rows)
    expected = {}
    for path, field in LEAVES.items():
        default = "required" if field.required else documented_default(field.default).strip('"')
        default = DEFAULTS_OF_OTHERS.get(path, default)
        is_list = "[]" in path or isinstance(field.default, tuple)
        name = "-" if is_list and path not in LISTS_AS_TEXT else "PYSSH_GATEWAY_" + path.upper().replace(".", "__")
        expected[path] = (default, name)
    assert {key: (default.strip('"'), name) for key, (default, name) in documented.items()} == expected


def test_the_documentation_s_example_is_a_valid_file() -> None:
    """The documented example is a valid file."""
    examples = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 1
    assert [login.user for login in parse(from_file(examples[0])).login] == ["amos", "build"]

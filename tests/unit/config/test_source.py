"""The layers of the configuration: which file, what overrides what, and what each mistake says."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config.source import ConfigError, RawConfig, listen_endpoints, read, shown_endpoint
from tests.support.places import ROOT

WriteFile = Callable[[str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Write a configuration file and return its path."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "config.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    """A path at which there is no file."""
    return str(tmp_path / "missing.toml")


def problems_of(path: str | None, environ: dict[str, str], overrides: dict[str, object], default: str) -> list[str]:
    """The problems that reading these layers reports."""
    with pytest.raises(ConfigError) as caught:
        read(path, environ, overrides, default)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


def imported_by(code: str) -> set[str]:
    """The modules that `code` imports in a fresh interpreter, without those that every interpreter imports."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_it_imports_nothing_heavy() -> None:
    """The socket is bound milliseconds after exec, because this module imports nothing slow."""
    heavy = {"argparse", "asyncio", "asyncssh", "dataclasses", "msgspec", "pathlib", "re", "tomllib", "typing"}
    assert not imported_by("import pyssh_gateway.config.source") & heavy


def test_a_machine_without_a_file_never_imports_tomllib() -> None:
    """On a machine configured by its environment, the first connection does not wait for an unused TOML parser."""
    code = (
        "from pyssh_gateway.config.source import listen_endpoints, read\n"
        "listen_endpoints(read(None, {'PYSSH_GATEWAY_LISTEN__PORT': '22'}, {}, '/nonexistent'))"
    )
    assert not imported_by(code) & {"msgspec", "tomllib", "typing"}


def test_without_any_layer_there_are_no_values(nowhere: str) -> None:
    """Without any configuration, the built-in defaults are in force."""
    raw = read(None, {"HOME": "/root", "PYSSH_GATEWAYS_X": "1"}, {}, nowhere)
    assert (raw.values, raw.origins, raw.path) == ({}, {}, None)


def test_what_was_read_cannot_be_changed(nowhere: str) -> None:
    """The address that is bound early cannot differ from the one that is checked later."""
    raw = read(None, {}, {}, nowhere)
    with pytest.raises(AttributeError, match="frozen"):
        raw.path = "/elsewhere"


@pytest.mark.parametrize("named", [None, ""])
def test_the_default_file_is_read_if_it_exists(write: WriteFile, named: str | None) -> None:
    """A file at the default path is in force; an empty PYSSH_GATEWAY_CONFIG is the same as none."""
    path = write("keys_dir = '/data/keys'")
    raw = read(None, {} if named is None else {"PYSSH_GATEWAY_CONFIG": named}, {}, path)
    assert raw.values == {"keys_dir": "/data/keys"}
    assert raw.path == path


def test_the_command_line_names_the_file_before_the_environment_does(write: WriteFile, nowhere: str) -> None:
    """--config wins over PYSSH_GATEWAY_CONFIG, which wins over the default path."""
    path = write("account = 'gateway'")
    assert read(path, {"PYSSH_GATEWAY_CONFIG": nowhere}, {}, nowhere).path == path
    raw = read(None, {"PYSSH_GATEWAY_CONFIG": path}, {}, nowhere)
    assert raw.path == path
    assert raw.values == {"account": "gateway"}


def test_later_layers_override_earlier_ones(write: WriteFile) -> None:
    """File < environment < command line, and each value remembers which of them set it."""
    path = write('[listen]\naddress = "127.0.0.1"\nport = 1\n[idle]\ntimeout = "1m"\n[[login]]\nuser = "a"\nkeys = []')
    environ = {
        "PYSSH_GATEWAY_IDLE__TIMEOUT": "5m",
        "PYSSH_GATEWAY_LISTEN__PORT": "2",
        "PYSSH_GATEWAY_LOG__FORMAT": "json",
    }
    login = [{"user": "b", "keys": ["github:example"]}]
    overrides: dict[str, object] = {"listen.port": 3, "login": login, "idle.timeout": None, "stop.drain": "2s"}
    raw = read(path, environ, overrides)
    assert raw.values == {
        "listen": {"address": "127.0.0.1", "port": 3},
        "idle": {"timeout": "5m"},
        "log": {"format": "json"},
        "stop": {"drain": "2s"},
        "login": login,
    }
    assert raw.origins == {
        "listen": path,
        "listen.address": path,
        "listen.port": "command line",
        "idle": path,
        "idle.timeout": "environment PYSSH_GATEWAY_IDLE__TIMEOUT",
        "log": "environment PYSSH_GATEWAY_LOG__FORMAT",
        "log.format": "environment PYSSH_GATEWAY_LOG__FORMAT",
        "stop": "command line",
        "stop.drain": "command line",
        "login": "command line",
    }


def test_a_windows_editor_s_byte_order_mark_is_no_mistake(write: WriteFile) -> None:
    """A file saved as "UTF-8 with BOM" is read, and not refused for an invisible character."""
    assert read(write(b"\xef\xbb\xbfaccount = 'x'\r\n"), {}, {}).values == {"account": "x"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[listen\n", "not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 8)"),
        ("a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value (at line 2, column 6)"),
        ("a = " + "9" * 5000, "not valid TOML: Exceeds the limit"),
        (b"a = 1\nb = '\xff'\n", "not UTF-8 text (at line 2)"),
        ("a = " + "[" * 100_000, "not usable: lists or tables are nested too deeply"),
        ("#" * (1024 * 1024 + 1), "is longer than 1024 KiB, so it is hardly a configuration"),
    ],
    ids=["syntax", "twice", "digits", "utf-8", "nesting", "length"],
)
def test_a_file_that_is_no_configuration_is_named_with_the_place(
    write: WriteFile, content: str | bytes, problem: str
) -> None:
    """For any broken file, the error is one line that says where the mistake is."""
    path = write(content)
    (line,) = problems_of(path, {}, {}, path)
    assert line.startswith(f"{path}: {problem}")


def test_a_file_that_cannot_be_read_says_who_asked_for_it(nowhere: str, tmp_path: Path) -> None:
    """An error about a path says where the path was given, so that people know what to change."""
    missing = f"{nowhere}: cannot be read: No such file or directory"
    assert problems_of(nowhere, {}, {}, nowhere) == [f"{missing} (this file is named by --config)"]
    by_environment = problems_of(None, {"PYSSH_GATEWAY_CONFIG": nowhere}, {}, nowhere)
    assert by_environment == [f"{missing} (this file is named by PYSSH_GATEWAY_CONFIG)"]
    directory = problems_of(None, {}, {}, str(tmp_path))
    assert directory == [f"{tmp_path}: cannot be read: Is a directory (this file is the default)"]
    dangling = tmp_path / "link.toml"
    dangling.symlink_to(nowhere)
    assert problems_of(None, {}, {}, str(dangling))[0].startswith(f"{dangling}: cannot be read: No such file")
    assert problems_of("a\0b\n", {}, {}, nowhere)[0].startswith(r"'a\x00b\n': cannot be read: embedded null")


@pytest.mark.parametrize("name", ["", "IDLE__", "__IDLE", "IDLE____TIMEOUT", "A__B__C__D__E"])
def test_an_environment_name_without_a_key_is_refused(nowhere: str, name: str) -> None:
    """A misspelt variable is reported, not ignored."""
    (line,) = problems_of(None, {f"PYSSH_GATEWAY_{name}": "1"}, {}, nowhere)
    assert line.startswith("names no key; two underscores separate a table from its key")
    assert line.endswith(f"(from environment PYSSH_GATEWAY_{name})")


def test_layers_cannot_contradict_the_shape_of_the_file(write: WriteFile) -> None:
    """All contradictions of all layers are listed at once, each with its path and its layer."""
    path = write("account = 'x'\nlogin = []\n[idle]\n")
    environ = {
        "PYSSH_GATEWAY_ACCOUNT__NAME": "y",
        "PYSSH_GATEWAY_LOGIN": "amos",
        "PYSSH_GATEWAY_LOGIN__USER": "amos",
        "PYSSH_GATEWAY_IDLE": "60s",
    }
    assert problems_of(path, environ, {"idle": {}, "account.name": "z", "log": "x"}, path) == [
        "account: is not a table, nothing can be set in it (from environment PYSSH_GATEWAY_ACCOUNT__NAME)",
        "idle: is a table, only the keys in it can be set (from environment PYSSH_GATEWAY_IDLE)",
        "login: is a list, which only the configuration file can set (from environment PYSSH_GATEWAY_LOGIN)",
        "login: is not a table, nothing can be set in it (from environment PYSSH_GATEWAY_LOGIN__USER)",
        "idle: is a table, only the keys in it can be set (from command line)",
        "account: is not a table, nothing can be set in it (from command line)",
    ]


def test_a_broken_file_does_not_hide_a_broken_environment(nowhere: str) -> None:
    """One report of errors is enough to mend all layers."""
    lines = problems_of(nowhere, {"PYSSH_GATEWAY_": "1"}, {}, nowhere)
    assert [line.split(":")[0].split(";")[0] for line in lines] == [nowhere, "names no key"]


def test_tables_nested_beyond_reason_cost_nothing(write: WriteFile) -> None:
    """A table header with thousands of dots cannot fill the memory with paths."""
    raw = read(write("[" + ".".join(["a"] * 50_000) + "]"), {}, {})
    assert list(raw.origins) == ["a", "a.a", "a.a.a", "a.a.a.a"]


def test_names_that_a_terminal_would_act_on_are_quoted(write: WriteFile) -> None:
    """A key with an escape sequence is escaped before it is shown, and a key with a dot is quoted."""
    raw = read(write('"a\\u001b[2J" = 1\n"b.c" = 2\n' + "d" * 100 + " = 3"), {}, {})
    assert list(raw.origins) == ['"a\\x1b[2J"', '"b.c"', '"' + "d" * 60 + '..."']


def raw_listen(listen: object, origin: str = "/config.toml") -> RawConfig:
    """A raw configuration with this [listen] table, all of whose keys come from `origin`."""
    return RawConfig({"listen": listen}, {"listen.address": origin, "listen.port": origin}, None)


@pytest.mark.parametrize(
    ("listen", "endpoints"),
    [
        ({}, [("0.0.0.0", 2222)]),
        ({"port": 0}, [("0.0.0.0", 0)]),
        ({"port": 65535}, [("0.0.0.0", 65535)]),
        ({"address": "::1"}, [("::1", 2222)]),
        ({"address": "127.0.0.1", "port": 22}, [("127.0.0.1", 22)]),
        ({"address": ["0.0.0.0:22", "[::]:22"], "port": 7}, [("0.0.0.0", 22), ("::", 22)]),
        (
            {"address": ["0.0.0.0", "::", "[::1]", "[::1]:7"]},
            [("0.0.0.0", 2222), ("::", 2222), ("::1", 2222), ("::1", 7)],
        ),
        ({"address": "0.0.0.0:22,[::]:22, 127.0.0.1"}, [("0.0.0.0", 22), ("::", 22), ("127.0.0.1", 2222)]),
        ({"address": "127.0.0.1:7"}, [("127.0.0.1", 7)]),
        ({"address": ["127.0.0.1:0", "127.0.0.1:0"]}, [("127.0.0.1", 0), ("127.0.0.1", 0)]),
        ({"address": []}, None),
        ({"address": ["127.0.0.1:22", "127.0.0.1:22"]}, None),
        ({"address": ["127.0.0.1", "127.0.0.1"]}, None),
        ({"address": ["127.0.0.1", 22]}, None),
        ({"address": ["localhost:22"]}, None),
        ({"address": ["127.0.0.1:"]}, None),
        ({"address": ["127.0.0.1:65536"]}, None),
        ({"address": ["127.0.0.1:+1"]}, None),
        ({"address": ["[127.0.0.1]:22"]}, None),
        ({"address": ["[::1"]}, None),
        ({"address": ["::1]:22"]}, None),
        ({"address": ["[::1]22"]}, None),
        ({"address": ["[]:22"]}, None),
        ({"address": "127.0.0.1,"}, None),
        ({"address": ["127.0.0.1"] * 65, "port": 0}, None),
        ("ssh", None),
        ({"port": 65536}, None),
        ({"port": -1}, None),
        ({"port": True}, None),
        ({"port": 22.0}, None),
        ({"port": "22"}, None),
        ({"address": 1}, None),
        ({"address": ""}, None),
        ({"address": "localhost"}, None),
        ({"address": "1.2.3"}, None),
        ({"address": "dead.beef"}, None),
        ({"address": "fe80::1%lo"}, None),
        ({"address": "::1\0"}, None),
        ({"address": "\udc80"}, None),
    ],
)
def test_the_listening_address_is_known_before_anything_is_checked(
    listen: object, endpoints: list[tuple[str, int]] | None
) -> None:
    """Addresses that cannot be bound as they are wait for the full check, and are never looked up in the DNS."""
    assert listen_endpoints(raw_listen(listen)) == (None if endpoints is None else tuple(endpoints))


def test_without_a_listen_table_the_default_address_is_bound() -> None:
    """An unconfigured server is reachable as early as a configured one."""
    assert listen_endpoints(RawConfig({}, {}, None)) == (("0.0.0.0", 2222),)


@pytest.mark.parametrize("origin", ["environment PYSSH_GATEWAY_LISTEN__PORT", "command line"])
@pytest.mark.parametrize(("text", "port"), [("2022", 2022), ("x", None), ("\u0662", None), ("9" * 20, None)])
def test_a_port_from_the_environment_is_a_number_in_digits(origin: str, text: str, port: int | None) -> None:
    """The environment has only text, so a port from it is accepted in digits."""
    expected = None if port is None else (("0.0.0.0", port),)
    assert listen_endpoints(raw_listen({"port": text}, origin)) == expected


@given(st.lists(st.tuples(st.ip_addresses().map(str), st.integers(1, 65535)), min_size=1, max_size=8, unique=True))
def test_what_is_shown_is_what_is_read(endpoints: list[tuple[str, int]]) -> None:
    """Protects people who copy addresses from the log into the file: they mean the same ones again."""
    texts = [shown_endpoint(*endpoint) for endpoint in endpoints]
    assert listen_endpoints(raw_listen({"address": texts})) == tuple(endpoints)
    assert listen_endpoints(raw_listen({"address": ",".join(texts)})) == tuple(endpoints)


def test_environment_can_set_a_list_of_addresses(write: WriteFile) -> None:
    """Protects users of an image: one variable with commas overrides the file's list of addresses."""
    path = write('[listen]\naddress = ["0.0.0.0:22", "[::]:22"]\n')
    assert listen_endpoints(read(path, {}, {})) == (("0.0.0.0", 22), ("::", 22))
    environ = {"PYSSH_GATEWAY_LISTEN__ADDRESS": "127.0.0.1:7,[::1]:7"}
    assert listen_endpoints(read(path, environ, {})) == (("127.0.0.1", 7), ("::1", 7))

"""`config show`: every value with its origin, and no secret."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pyssh_gateway.cli import main
from pyssh_gateway.cli.configuration.effective import effective
from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.source import read

FILE = """\
keys_dir = "keys"
[idle]
client_idle = "30m"
schedule = ["mon-fri 08:00-18:00"]
[[login]]
user = "amos"
keys = ["github:example"]
[[login]]
user = "bob"
keys = ["github:other"]
forwarding = "none"
[[boot.service]]
name = "dockerd"
command = "dockerd"
"""

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `config show` with the file above and further arguments; returns exit code, output and error messages."""
    (tmp_path / "config.toml").write_text(FILE)

    def command(*arguments: str, **environ: str) -> tuple[int, str, str]:
        named = {f"PYSSH_GATEWAY_{name}": value for name, value in environ.items()}
        code = main.run(["config", "show", *arguments, "--config", str(tmp_path / "config.toml")], named)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_each_value_says_where_it_is_from(run: Run, tmp_path: Path) -> None:
    """Protects the reader from guessing which of the four layers has set a value."""
    code, out, err = run("--changed", LISTEN__PORT="22")
    assert (code, err) == (0, "")
    file, variable = f"# {tmp_path}/config.toml", "environment PYSSH_GATEWAY_LISTEN__PORT"
    assert out.splitlines() == [
        f"{file}; environment: PYSSH_GATEWAY_LISTEN__PORT",
        f"listen.port             = 22                       # {variable}",
        f'login[0].user           = "amos"                   {file}',
        f'login[0].keys           = ["github:example"]       {file}',
        f'login[1].user           = "bob"                    {file}',
        f'login[1].keys           = ["github:other"]         {file}',
        f'login[1].forwarding     = "none"                   {file}',
        f'idle.client_idle        = "30m"                    {file}',
        f'idle.schedule           = ["mon-fri 08:00-18:00"]  {file}',
        f'boot.service[0].name    = "dockerd"                {file}',
        f'boot.service[0].command = "dockerd"                {file}',
        f'keys_dir                = "keys"                   {file}',
    ]


def test_a_key_or_a_table_can_be_named(run: Run) -> None:
    """Protects scripts that want one value; a name that does not exist gets a hint."""
    _, out, _ = run("login")
    assert {line.partition(".")[0] for line in out.splitlines()[1:]} == {"login[0]", "login[1]"}
    assert run("idle.timeout")[1].splitlines()[1:] == ['idle.timeout = "2m"  # default']
    code, out, err = run("idle.timout")
    assert (code, out) == (2, "")
    assert 'there is no key "idle.timout"; did you mean idle.timeout?' in err


def test_no_secret_is_shown(run: Run) -> None:
    """Protects tokens, and the passwords of proxies, on a screen that others see."""
    secrets = {"KEYS__GITHUB_TOKEN": "ghp_secret", "KEYS__HTTPS_PROXY": "http://me:secret@proxy.example"}
    for arguments in ((), ("--json",)):
        out = run(*arguments, **secrets)[1]
        assert "secret@" not in out
        assert "ghp_secret" not in out
    (value,) = json.loads(run("keys.github_token", "--json", **secrets)[1])["values"]
    assert value == {
        "key": "keys.github_token",
        "value": None,
        "text": "(set, not shown)",
        "origin": "environment",
        "name": "PYSSH_GATEWAY_KEYS__GITHUB_TOKEN",
        "secret": True,
    }
    assert '""' in run("keys.github_token")[1]


def test_a_list_with_secrets_is_not_shown(tmp_path: Path, run: Run) -> None:
    """Protects the addresses of webhooks, which are as good as passwords, in the same way."""
    with (tmp_path / "config.toml").open("a") as file:
        file.write('[stop]\nwarn = ["true", "https://hooks.example/T0/ghp_secret"]\n')
    for arguments in ((), ("--json",), ("stop.warn",)):
        assert "ghp_secret" not in run(*arguments)[1]
    assert "(set, not shown)" in run("stop.warn")[1]


def test_a_configuration_that_cannot_be_used_is_no_answer(run: Run) -> None:
    """A configuration that cannot be used is reported in the same words as everywhere."""
    code, out, err = run(IDLE__TIMEOUT="soon")
    assert (code, out) == (2, "")
    assert "idle.timeout: expected a duration" in err


def test_what_is_shown_is_what_a_file_would_have(tmp_path: Path) -> None:
    """A value can be copied into a file with the same meaning: each text is TOML and parses to the value."""
    (tmp_path / "config.toml").write_text(FILE)
    raw = read(str(tmp_path / "config.toml"), {"PYSSH_GATEWAY_STOP__COMMAND": 'a\x7f \\ "é\u2028\t'}, {})
    values = {value.key: value for value in effective(raw, parse(raw))}
    assert all(tomllib.loads(f"x = {value.text}") == {"x": value.value} for value in values.values())
    assert len(values) > 60
    copied = {key: value.value for key, value in values.items() if "[" not in key and not key.startswith("boot")}
    again = read(None, {}, {**copied, "login": raw.values["login"], "boot": None}, "")
    assert parse(again).idle == parse(raw).idle
    assert parse(again).stop == parse(raw).stop

"""Which changes of a configuration apply at once, and which wait for the next start."""

import re
from pathlib import Path

import msgspec

from pyssh_gateway.config.types import Config, Idle, Keys, Listen, Login
from pyssh_gateway.config.values import Duration, Secret
from pyssh_gateway.core.reload import NEEDS_RESTART, settle

AMOS = Login(user="amos", keys=("github:example",))
BUILD = Login(user="build", keys=("github:example",))


def test_nothing_changes() -> None:
    """An unchanged configuration names no key and stays in force."""
    config = Config(login=(AMOS,))
    settled = settle(config, Config(login=(AMOS,)))
    assert (settled.config, settled.changed, settled.restart) == (config, (), ())


def test_changes_are_named_by_their_keys() -> None:
    """Protects readers of the log: every changed key is named, in the configuration's order."""
    new = Config(login=(AMOS, BUILD), keys=Keys(github_token=Secret("t")), idle=Idle(timeout=Duration(5)))
    settled = settle(Config(login=(AMOS,)), new)
    assert settled.config == new
    assert (settled.changed, settled.restart) == (("login", "keys.github_token", "idle.timeout"), ())


def test_what_needs_a_restart_stays_as_it_was() -> None:
    """Protects the server from half a change: keys that need a restart keep their old values."""
    old = Config(login=(AMOS,), audit_dir="/a")
    new = Config(login=(BUILD,), listen=Listen(port=22, identification="Mine"), audit_dir="/b")
    settled = settle(old, new)
    assert settled.config == Config(login=(BUILD,), listen=Listen(identification="Mine"), audit_dir="/a")
    assert (settled.changed, settled.restart) == (("listen.identification", "login"), ("listen.port", "audit_dir"))


def test_every_key_that_needs_a_restart_exists() -> None:
    """Protects the list from becoming outdated: a renamed key would silently count as one that can change."""
    names = set()
    for field in msgspec.structs.fields(Config):
        value = getattr(Config(), field.name)
        below = value.__struct_fields__ if isinstance(value, msgspec.Struct) else ()
        names |= {f"{field.name}.{name}" for name in below} or {field.name}
    assert names >= NEEDS_RESTART


def test_documentation_names_them() -> None:
    """docs/configuration.md lists exactly the keys that need a restart."""
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    found = re.search(r"These need a restart; the log names those that have changed: (.*?)\.\n", text, re.DOTALL)
    assert found is not None
    assert set(re.findall(r"`([a-z_.]+)`", found[1])) == NEEDS_RESTART

"""What a reloaded configuration changes at once, and what has to wait for the next start."""

import msgspec

from pyssh_gateway.config.types import Config

NEEDS_RESTART = frozenset(
    {
        "listen.address",
        "listen.port",
        "host_keys.types",
        "host_keys.files",
        "host_keys.certificates",
        "boot.homes",
        "boot.link",
        "boot.directory",
        "boot.account",
        "boot.service",
        "metrics.listen",
        "log.format",
        "audit.syslog",
        "audit.otlp",
        "audit.otlp_headers",
        "account",
        "preauth_account",
        "control",
        "keys_dir",
        "audit_dir",
    }
)
"""Settings for what is opened, made or given up before the first client: a running process can't do that again."""


class Settled(msgspec.Struct, frozen=True):
    """`config` takes effect; of the keys that differ, `changed` take effect now and `restart` at the next start."""

    config: Config
    changed: tuple[str, ...]
    restart: tuple[str, ...]


def settle(old: Config, new: Config) -> Settled:
    """The result of reading `new` while `old` is in force."""
    changed: list[str] = []
    restart: list[str] = []
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(Config):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if isinstance(before, msgspec.Struct):
            values[field.name] = _merged(field.name + ".", before, after, changed, restart)
        else:
            values[field.name] = _chosen(field.name, before, after, changed, restart)
    return Settled(Config(**values), tuple(changed), tuple(restart))  # type: ignore[arg-type]  # the values of two Configs


def _merged(
    path: str, old: msgspec.Struct, new: msgspec.Struct, changed: list[str], restart: list[str]
) -> msgspec.Struct:
    """The table that takes effect; the keys in which the two tables differ are added to the lists."""
    values = {
        name: _chosen(path + name, getattr(old, name), getattr(new, name), changed, restart)
        for name in old.__struct_fields__
    }
    return type(old)(**values)


def _chosen(path: str, old: object, new: object, changed: list[str], restart: list[str]) -> object:
    if old == new:
        return old
    if path in NEEDS_RESTART:
        restart.append(path)
        return old
    changed.append(path)
    return new

"""The sources of a server's configuration: the server tells commands, so that they read the same.

A command in a session, or under sudo, has another environment and another directory than the server.
"""

import json

import msgspec


class ConfigOrigin(msgspec.Struct, frozen=True):
    """The sources of a server's configuration, as they were when the server started.

    Relative paths start at `directory`. `path` is the value of --config, None if it was not given. `environ` has only
    the variables that affect the configuration, `overrides` the values from the command line by dotted paths.
    """

    directory: str
    path: str | None
    environ: dict[str, str]
    overrides: dict[str, object]

    def pack(self) -> bytes:
        """All of it as bytes. Unlike msgspec's JSON, this keeps names that are not UTF-8 (surrogate escapes)."""
        return json.dumps(msgspec.structs.asdict(self)).encode("ascii")


def unpack(packed: bytes) -> ConfigOrigin:
    """The reverse of `ConfigOrigin.pack`. Raises ValueError."""
    return msgspec.convert(json.loads(packed), ConfigOrigin)

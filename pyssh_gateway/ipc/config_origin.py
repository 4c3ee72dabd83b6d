"""What a server reads its configuration from: told by the server, so that others read the same.

A command in a session, or under sudo, has another environment and another directory than the server.
"""

import json

import msgspec


class ConfigOrigin(msgspec.Struct, frozen=True):
    """What the configuration of a server depends on, as it was when the server was started.

    Relative paths are meant from `directory`. `path` is what was given with --config, None for nothing; `environ` has
    the variables that count and no others, `overrides` what the command line says, by dotted paths.
    """

    directory: str
    path: str | None
    environ: dict[str, str]
    overrides: dict[str, object]

    def pack(self) -> bytes:
        """All of it as bytes. Names that are not UTF-8 (surrogate escapes) come through, unlike in msgspec's JSON."""
        return json.dumps(msgspec.structs.asdict(self)).encode("ascii")


def unpack(packed: bytes) -> ConfigOrigin:
    """The reverse of `ConfigOrigin.pack`. Raises ValueError."""
    return msgspec.convert(json.loads(packed), ConfigOrigin)

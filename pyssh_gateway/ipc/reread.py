"""What came of reading the configuration again, from the process that has read it to the spawner and the monitor.

A descriptor carries it, as it may be larger than a message.
"""

import hashlib

import msgspec

from pyssh_gateway.config.sizes import Size
from pyssh_gateway.config.types import Config
from pyssh_gateway.config.values import Duration, Secret


class Reread(msgspec.Struct, frozen=True):
    """What came of reading the configuration again.

    `config` is in force from now on, None: the old one still is, and `problems` has a line for each reason. Of the keys
    that differ from before, `changed` do so now, and `restart` when the server is started again.
    """

    config: Config | None
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def encode(outcome: Reread) -> bytes:
    """As it travels between processes; descriptors carry it, as it may be larger than a message."""
    return msgspec.msgpack.encode(outcome, enc_hook=_plain)


def decode(packet: bytes) -> Reread:
    """The reverse of `encode`. Raises ValueError."""
    return _decoder.decode(packet)


def digest(config: Config) -> str:
    """A mark of the configuration: another one has another mark. It tells nothing of what is in it."""
    return hashlib.sha256(encode(Reread(config))).hexdigest()


def _plain(value: object) -> object:
    """The configuration's own kinds of numbers and texts, as ordinary ones."""
    if isinstance(value, Duration):
        return float(value)
    if isinstance(value, Size):
        return int(value)
    if isinstance(value, Secret):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not of a configuration")


def _special(kind: type, value: object) -> object:
    """The reverse of `_plain`."""
    return kind(value)


_decoder = msgspec.msgpack.Decoder(Reread, dec_hook=_special)

"""The outcome of reading the configuration again, sent by the process that has read it to the spawner and the monitor.

A descriptor carries it, as it may be larger than a message.
"""

import hashlib

import msgspec

from pyssh_gateway.config.sizes import Size
from pyssh_gateway.config.types import Config
from pyssh_gateway.config.values import Duration, Secret


class Reread(msgspec.Struct, frozen=True):
    """The outcome of reading the configuration again.

    `config` is in force from now on; None: the old one still is, and `problems` has a line for each reason. Of the keys
    with a new value, `changed` take effect now, and `restart` when the server is restarted.
    """

    config: Config | None
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def encode(outcome: Reread) -> bytes:
    """The bytes of `outcome`, for a file, as they may be larger than a message."""
    return msgspec.msgpack.encode(outcome, enc_hook=_plain)


def decode(packet: bytes) -> Reread:
    """The reverse of `encode`. Raises ValueError."""
    return _decoder.decode(packet)


def digest(config: Config) -> str:
    """A hash of the configuration, which differs for every other configuration and reveals nothing of it."""
    return hashlib.sha256(encode(Reread(config))).hexdigest()


def _plain(value: object) -> object:
    """Convert the configuration's own types of numbers and texts to ordinary ones."""
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

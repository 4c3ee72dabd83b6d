"""What the monitor is told at its start."""

import msgspec

from pyssh_gateway.config.types import Config
from pyssh_gateway.ipc.config_origin import ConfigOrigin
from pyssh_gateway.ipc.crash import Crash


class Facts(msgspec.Struct, frozen=True):
    """What the monitor is given by the process that started it.

    `human` and `colour` say what goes to standard output. `identity` is the private key that the banner names, if any;
    `generation` counts monitors from 1, and `crashes` are the ends of earlier ones. `started` is the Unix time of the
    first one. `timezone` is the TZ that the server was started with, None for none. `control` is the path of the
    control socket, None for none. `origin` is what the configuration was read from, `certificates` are the files of
    host certificates, and whether each has to be there.
    """

    config: Config
    human: bool
    colour: bool
    identity: str = ""
    generation: int = 1
    crashes: tuple[Crash, ...] = ()
    started: float = 0.0
    timezone: str | None = None
    control: str | None = None
    origin: ConfigOrigin = ConfigOrigin("/", None, {}, {})
    certificates: tuple[tuple[str, bool], ...] = ()

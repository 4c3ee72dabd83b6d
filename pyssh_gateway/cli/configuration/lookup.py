"""Which configuration is meant: the one that was named, or that of the server that runs.

A command in a session, or under sudo, has neither the environment nor the directory that the server was started with,
so what it finds by itself may be another configuration. The server tells root, and the account that started it, what it
reads (`core.config_origin`), and then the same is read here.
"""

import os
from collections.abc import Callable, Mapping

import msgspec

from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.request import NoServer
from pyssh_gateway.config import source
from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.source import ConfigError, RawConfig
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.config_origin import ConfigOrigin, unpack
from pyssh_gateway.core.control import ConfigReply
from pyssh_gateway.ipc.reread import digest

Ask = Callable[[], ConfigReply]
"""Asks the server that runs. Raises NoServer, Failed."""


class Lookup(msgspec.Struct, frozen=True):
    """What was found. `raw` is it as it was written; `config` None: it can't be used, and `problems` says why.

    `server` is the process of the server that it is read for, 0 for none; then `in_force` says whether that server has
    it in force, and does not need to be told to read it again. `variables` are those of the environment that count.
    `remark` is what the person has to know of where it came from; empty for nothing.
    """

    raw: RawConfig | None
    config: Config | None
    problems: tuple[str, ...]
    variables: tuple[str, ...]
    server: int = 0
    in_force: bool = True
    remark: str = ""

    @property
    def described(self) -> str:
        """What was read, in a line."""
        file = source.printable(self.raw.path) if self.raw is not None and self.raw.path is not None else ""
        variables = ", ".join(self.variables)
        whose = f", of the server that runs (process {self.server})" if self.server else ""
        parts = [file or "no file", f"environment: {variables}" if variables else ""]
        return "; ".join(part for part in parts if part) + whose


def named(path: str | None, environ: Mapping[str, str]) -> bool:
    """Whether somebody has said which configuration is meant, by --config or by a variable."""
    return path is not None or any(name.startswith(source.PREFIX) for name in environ)


def look_up(path: str | None, environ: Mapping[str, str], ask: Ask | None = None) -> Lookup:
    """The configuration that is meant; `path` is what was given with --config, `ask` is tried if nobody has named one.

    With that of a server, its directory becomes the working directory: relative paths are meant from there.
    """
    own = ConfigOrigin("", path, source.relevant(environ), {})
    if ask is None or named(path, environ):
        return _read(own)
    try:
        reply = ask()
        origin = unpack(reply.origin)
    except NoServer:
        return _read(own)
    except (Failed, ValueError) as error:
        reason = f"the server that runs, which may have another one, was not asked: {error}"
        return msgspec.structs.replace(_read(own), remark=reason)
    try:
        os.chdir(origin.directory)
    except OSError as error:
        remark = f"the server's directory, {origin.directory}, can't be entered: {error.strerror}"
        return msgspec.structs.replace(_read(origin, reply), remark=remark)
    return _read(origin, reply)


def _read(origin: ConfigOrigin, server: ConfigReply | None = None) -> Lookup:
    variables = tuple(sorted(name for name, value in origin.environ.items() if value))
    raw = config = None
    problems: tuple[str, ...] = ()
    try:
        raw = source.read(origin.path, origin.environ, origin.overrides)
        config = parse(raw)
    except ConfigError as error:
        problems = error.problems
    pid = 0 if server is None else server.pid
    in_force = server is None or config is None or digest(config) == server.in_force
    return Lookup(raw, config, problems, variables, pid, in_force)

"""Finds the configuration that a command is about: the one that was named, or that of the running server.

A command in a session, or under sudo, has neither the environment nor the directory that the server was started with,
so by itself it may find another configuration. The server tells root, and the account that started it, where its
configuration comes from (`ipc.config_origin`), and the command reads the same.
"""

import os
from collections.abc import Callable, Mapping

import msgspec

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.request import Answer, NoServer, ask
from pyssh_gateway.cli.server_socket import Server
from pyssh_gateway.config import source
from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.source import ConfigError, RawConfig
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.control import ConfigReply, Configuration
from pyssh_gateway.ipc.config_origin import ConfigOrigin, unpack
from pyssh_gateway.ipc.reread import digest

Ask = Callable[[], Answer[ConfigReply]]
"""Asks the running server. Raises NoServer, Failed."""


class Lookup(msgspec.Struct, frozen=True):
    """The configuration that was found. `raw` is it as written. `config` None: it can't be used, `problems` says why.

    `server` is the server that uses it, None for none, and `pid` is that server's first process. `in_force`: the server
    has these values already and need not reload. `variables` are the variables of the environment that have an effect.
    `remark` tells the person something about where the configuration came from; empty for nothing.
    """

    raw: RawConfig | None
    config: Config | None
    problems: tuple[str, ...]
    variables: tuple[str, ...]
    server: Server | None = None
    pid: int = 0
    in_force: bool = True
    remark: str = ""

    @property
    def file(self) -> str:
        """The file that was read; empty for none."""
        return "" if self.raw is None or self.raw.path is None else self.raw.path

    @property
    def described(self) -> str:
        """A line that says what was read."""
        file = source.printable(self.file)
        variables = ", ".join(self.variables)
        whose = f", of the server that runs (process {self.pid})" if self.pid else ""
        parts = [file or "no file", f"environment: {variables}" if variables else ""]
        return "; ".join(part for part in parts if part) + whose


def named(path: str | None, environ: Mapping[str, str]) -> bool:
    """Whether a configuration was named, by --config or by a variable."""
    return path is not None or any(name.startswith(source.PREFIX) for name in environ)


def find(context: Context) -> Lookup:
    """The configuration that a command is about."""
    return look_up(context.path, context.environ, lambda: ask(context.places, Configuration(), ConfigReply))


def look_up(path: str | None, environ: Mapping[str, str], ask_server: Ask) -> Lookup:
    """The configuration that a command is about; `path` is the value of --config.

    If none was named, `ask_server` is tried. If the server answers, its directory becomes the working directory,
    because relative paths start there.
    """
    own = ConfigOrigin("", path, source.relevant(environ), {})
    if named(path, environ):
        return _read(own)
    try:
        answer = ask_server()
        reply = answer.reply
        origin = unpack(reply.origin)
    except (NoServer, ConfigError):  # ConfigError: without a configuration we don't know where a server listens
        return _read(own)
    except (Failed, ValueError) as error:
        reason = f"the server that runs, which may have another one, was not asked: {error}"
        return msgspec.structs.replace(_read(own), remark=reason)
    try:
        os.chdir(origin.directory)
    except OSError as error:
        remark = f"the server's directory, {origin.directory}, can't be entered: {error.strerror}"
        return msgspec.structs.replace(_read(origin, answer), remark=remark)
    return _read(origin, answer)


def _read(origin: ConfigOrigin, answer: Answer[ConfigReply] | None = None) -> Lookup:
    variables = tuple(sorted(name for name, value in origin.environ.items() if value))
    raw = config = None
    problems: tuple[str, ...] = ()
    try:
        raw = source.read(origin.path, origin.environ, origin.overrides)
        config = parse(raw)
    except ConfigError as error:
        problems = error.problems
    if answer is None:
        return Lookup(raw, config, problems, variables)
    in_force = config is None or digest(config) == answer.reply.in_force
    return Lookup(raw, config, problems, variables, answer.server, answer.reply.pid, in_force)

"""The context of a command, looked up when it is needed: the configuration, and where the server listens."""

from collections.abc import Mapping
from functools import cached_property

from pyssh_gateway.cli.server_socket import Places, places, read_config
from pyssh_gateway.config import source

TYPE_CHECKING = False  # `hold` has to start fast, in front of other commands: neither is imported for it
if TYPE_CHECKING:
    from pyssh_gateway.config.types import Config


class Context:
    """For the configuration that --config names (`path`; None: not given), or else `environ`."""

    def __init__(self, path: str | None, environ: Mapping[str, str]) -> None:
        self.path = path
        self.environ = environ

    @cached_property
    def raw(self) -> source.RawConfig:
        """The configuration as it was written. Raises ConfigError.

        Only root may be able to read it: one that was not named and can't be read is treated as missing.
        """
        return read_config(self.path, self.environ)

    @cached_property
    def config(self) -> "Config":
        """The configuration that a server would use. Raises ConfigError, also for a file that can't be read."""
        from pyssh_gateway.config.parser import parse  # late: for the few commands that work without a server

        return parse(source.read(self.path, self.environ, {}))

    @cached_property
    def places(self) -> Places:
        """Where the server may listen. Raises ConfigError."""
        return places(self.raw, self.path, self.environ)

    @cached_property
    def checked_places(self) -> Places:
        """The same, but outside of a session ConfigError is raised for any mistake in the configuration."""
        from pyssh_gateway.config.parser import parse  # late: not for `hold`

        if self.places.session is None:
            parse(self.raw)
        return self.places

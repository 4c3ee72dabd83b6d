"""What a command may need beside its own words, found when asked for: the configuration, and where the server is."""

from collections.abc import Mapping
from functools import cached_property

from pyssh_gateway.cli.server_socket import Places, places, read_config
from pyssh_gateway.config import source

TYPE_CHECKING = False  # `hold` stands before other people's commands: neither is imported for it
if TYPE_CHECKING:
    from pyssh_gateway.config.types import Config


class Context:
    """The configuration that was named with --config (`path`, None: it was not) or else by `environ`."""

    def __init__(self, path: str | None, environ: Mapping[str, str]) -> None:
        self.path = path
        self.environ = environ

    @cached_property
    def raw(self) -> source.RawConfig:
        """The configuration as it was written. Raises ConfigError.

        It may be root's secret: where it can't be read, and nobody has named it, it is as if there were none.
        """
        return read_config(self.path, self.environ)

    @cached_property
    def config(self) -> "Config":
        """The configuration that a server would have. Raises ConfigError, also for a file that can't be read."""
        from pyssh_gateway.config.parser import parse  # late: for the few commands that work without a server

        return parse(source.read(self.path, self.environ, {}))

    @cached_property
    def places(self) -> Places:
        """Where the server may listen. Raises ConfigError."""
        return places(self.raw, self.path, self.environ)

    @cached_property
    def checked_places(self) -> Places:
        """The same; raises ConfigError for whatever is wrong with the configuration, where that has to be asked."""
        from pyssh_gateway.config.parser import parse  # late: not for `hold`

        if self.places.session is None:
            parse(self.raw)
        return self.places

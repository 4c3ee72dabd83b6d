"""The one table of live connections and their sessions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyssh_gateway.gateway.server import Client
    from pyssh_gateway.postauth.session import Session


class Registry:
    """Who is connected, authenticated or not, and what runs for them. Views are copies: entries go meanwhile."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}

    def add(self, client: "Client") -> None:
        """A connection was accepted."""
        self._clients[client.id] = client

    def remove(self, client: "Client") -> None:
        """The connection is gone."""
        self._clients.pop(client.id, None)

    @property
    def clients(self) -> "tuple[Client, ...]":
        """Every connection."""
        return tuple(self._clients.values())

    @property
    def authenticating(self) -> "tuple[Client, ...]":
        """The connections on which nobody has authenticated yet."""
        return tuple(client for client in self._clients.values() if not client.user)

    def is_on(self, user: str) -> bool:
        """Whether the account has a connection."""
        return any(client.user == user for client in self._clients.values())

    @property
    def sessions(self) -> "tuple[Session, ...]":
        """Every session of every connection."""
        return tuple(session for client in self._clients.values() for session in client.sessions.values())

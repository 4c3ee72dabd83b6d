"""Refuses what a client asks for that has come back by itself, until there is a sign that a person is there.

The machine was asleep because nobody used it. An editor's window or a loop around `ssh` that was left open connects
again at once, and must not keep the machine awake. Requests for a terminal and for SFTP are served: people make them,
editors' reconnections do not. Everything else gets an answer that ends the client's loop where any answer does
(docs/idle.md has what each client does with which): sessions are accepted, print one line and exit, and after a moment
the connection is closed with the same text.

Whether a client is treated so is the monitor's decision.
"""

import asyncio
from collections.abc import Callable

MOMENT_SECONDS = 3.0
"""From the first refusal to the disconnect. Requests of one login come in several messages: forwards of the client's
configuration before the session, open-remote-ssh's question for the system before its script. Three seconds are more
than two round trips and one retransmission (1 s, RFC 6298) on any network, and less than the machine's start."""

MAX_WAITING = 16
"""How many names of requests that wait for a decision are kept for the log."""

WHY = "the client has come back by itself: only a terminal or SFTP ends the machine's sleep"
"""For the log. The client gets the monitor's text."""


class Asleep:
    """One connection's refusals. `text` is shown to the client; nothing is refused if it is empty.

    `disconnect` ends the connection with a text, `deny` reports the name of a request that was refused.
    """

    def __init__(
        self,
        text: str,
        loop: asyncio.AbstractEventLoop,
        *,
        disconnect: Callable[[str], None],
        deny: Callable[[str], None],
    ) -> None:
        self._text = text
        self._loop = loop
        self._disconnect = disconnect
        self._deny = deny
        self._waiting: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def refusal(self) -> str | None:
        """The text for a client whose request is refused; None: requests are served."""
        return self._text or None

    def lift(self) -> None:
        """A person is there: a terminal or SFTP was asked for. Serve everything from now on."""
        self._text = ""
        self.close()

    def refused(self, request: str) -> None:
        """A request was refused: the connection ends in a moment, unless a person turns out to be there."""
        self._deny(request)
        self._begin()

    def waits(self, request: str) -> None:
        """A request is served, but what it is for is refused for now: a listener, whose connections are dropped.

        OpenSSH's client asks for the listeners of its configuration, for the agent and for X11 before it asks for the
        terminal. A person's login would lose them for good, or fail (ExitOnForwardFailure), if they were refused here.
        """
        if self._text:
            self._waiting = [*self._waiting[: MAX_WAITING - 1], request]
            self._begin()

    def close(self) -> None:
        """The connection has ended, or everything is served."""
        self._waiting = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(MOMENT_SECONDS, self._end)

    def _end(self) -> None:
        for request in self._waiting:
            self._deny(request)
        self._disconnect(self._text)

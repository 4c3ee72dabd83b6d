"""Why a connection ended, from the error that asyncssh has for it: in words, and whether its client meant it."""

import asyncssh


class PeerClosed(asyncssh.ConnectionLost):
    """The peer has closed its socket without a disconnect message; `ssh.transport` has it for the end."""

    def __init__(self) -> None:
        super().__init__("Connection lost")


def end_reason(error: Exception | None) -> str:
    """Why a connection ended. A client that simply closes its socket is no error, whatever asyncssh calls it."""
    if error is None:
        return "closed by the client"
    if isinstance(error, PeerClosed):
        return "closed by the client without a goodbye"
    return str(error) or type(error).__name__


def was_lost(error: Exception | None, cut_off: bool) -> bool:
    """Whether the client is gone without meaning to: its lid was closed, or its network went.

    Some clients only ever close the socket; who had nothing open any more (no `cut_off`) has said goodbye by that.
    """
    if isinstance(error, PeerClosed):
        return cut_off
    return isinstance(error, asyncssh.ConnectionLost | OSError)

"""Why a connection ended, from asyncssh's error: the reason in words, and whether the client meant to end it."""

import asyncssh


class PeerClosed(asyncssh.ConnectionLost):
    """The peer has closed its socket without a disconnect message; `ssh.transport` passes this as the error."""

    def __init__(self) -> None:
        super().__init__("Connection lost")


def end_reason(error: Exception | None) -> str:
    """Why a connection ended. A client that simply closes its socket is no error, although asyncssh calls it one."""
    if error is None:
        return "closed by the client"
    if isinstance(error, PeerClosed):
        return "closed by the client without a goodbye"
    return str(error) or type(error).__name__


def was_lost(error: Exception | None, cut_off: bool) -> bool:
    """Whether the client did not mean to end the connection: its laptop was closed, or its network failed.

    Some clients never send a disconnect message. If such a client closes the socket with no session open (no
    `cut_off`), that counts as intended.
    """
    if isinstance(error, PeerClosed):
        return cut_off
    return isinstance(error, asyncssh.ConnectionLost | OSError)

"""The progress of the boot, as the spawner sees it: reported steps, and accounts that a request has to wait for.

This module does not know what the steps are, nor how they are done.
"""

import socket

import msgspec

from pyssh_gateway.ipc import spawner as protocol


class Step(msgspec.Struct, frozen=True):
    """A step and its outcome: "ok", "unchanged", or the reason why it failed. `account`: the account concerned."""

    step: str
    outcome: str
    account: str = ""


_decoder = msgspec.msgpack.Decoder(Step)


class Booting:
    """The spawner's view of the process that does the steps. `accounts` are those that it has not finished yet."""

    def __init__(self, pid: int, reports: socket.socket, accounts: frozenset[str]) -> None:
        self.pid = pid
        self._reports = reports
        self.accounts = set(accounts)

    def fileno(self) -> int:
        """The descriptor to poll before `read`."""
        return self._reports.fileno()

    def close(self) -> None:
        """Close the socket for reports."""
        self._reports.close()

    def read(self) -> Step | None:
        """The next step that was done; None: there are no more, or the process has died."""
        packet = self._reports.recv(protocol.MAX_MESSAGE)
        if not packet:
            self.accounts.clear()
            self.close()
            return None
        step = _decoder.decode(packet)
        self.accounts.discard(step.account)
        return step

    def delays(self, request: protocol.MonitorRequest, users: frozenset[str]) -> bool:
        """Whether `request` needs an account that the boot has not finished yet.

        That is the account that the request names; for a key file, any of `users`, because one of them may own it.
        """
        match request:
            case protocol.StartPostauth(user=user) | protocol.AwaitAccount(user=user):
                return user in self.accounts
            case protocol.ReadKeys():
                return not self.accounts.isdisjoint(users)
            case _:
                return False

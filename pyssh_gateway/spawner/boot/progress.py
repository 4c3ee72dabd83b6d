"""What is made at boot, as the spawner sees it: steps that are told, and accounts that a request has to wait for.

What the steps are and who takes them is not known here.
"""

import socket

import msgspec

from pyssh_gateway.ipc import spawner as protocol


class Step(msgspec.Struct, frozen=True):
    """What was done, and how that went: "ok", "unchanged", or why not. `account`: the account that it was about."""

    step: str
    outcome: str
    account: str = ""


_decoder = msgspec.msgpack.Decoder(Step)


class Booting:
    """The process that makes what is missing, as the spawner sees it. `accounts` are those it has not looked at yet."""

    def __init__(self, pid: int, reports: socket.socket, accounts: frozenset[str]) -> None:
        self.pid = pid
        self._reports = reports
        self.accounts = set(accounts)

    def fileno(self) -> int:
        """What to wait on before `read`."""
        return self._reports.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._reports.close()

    def read(self) -> Step | None:
        """The next step that was done; None: it was the last one, or the process has died."""
        packet = self._reports.recv(protocol.MAX_MESSAGE)
        if not packet:
            self.accounts.clear()
            self.close()
            return None
        step = _decoder.decode(packet)
        self.accounts.discard(step.account)
        return step

    def delays(self, request: protocol.MonitorRequest, users: frozenset[str]) -> bool:
        """Whether `request` needs an account that is still to be looked at.

        That is the account that it names; for key files, which one of `users` may own, any of these.
        """
        match request:
            case protocol.StartPostauth(user=user) | protocol.AwaitAccount(user=user):
                return user in self.accounts
            case protocol.ReadKeys():
                return not self.accounts.isdisjoint(users)
            case _:
                return False

"""What a postauth process may have from the spawner: processes of its own account, and nothing else.

It is its account already, so what it gets here is what its account could have at a login; a flaw in it, or an exploit,
leads no further. Nothing here waits. How the process is talked to, and whether it lives, is not known here.
"""

import os
import pwd
from collections.abc import Callable
from functools import partial

from pyssh_gateway.core.transfers.sftp_options import expanded
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.processes.children import Children, Report
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.process import Begin, SpawnError

STARTING_PER_ACCOUNT = 4
"""Processes of one account that are on their way at a time; its next request waits. Each takes some ten milliseconds of
a processor until it is the account's program, and others' processes get theirs meanwhile."""


class AccountRequests:
    """Serves the postauth process that was asked for by the name `user`, whose entry is `account`.

    `may_log_in` says whether the configuration still lets it in, `chroot_of` what it has for a root directory (as the
    configuration writes it; empty: the machine's): the asker has no say in that. `report` sends an answer with its
    descriptors, which it closes. `begin` has a child become a process.
    """

    def __init__(
        self,
        user: str,
        account: pwd.struct_passwd,
        begin: Begin,
        *,
        may_log_in: Callable[[str], bool],
        chroot_of: Callable[[str], str],
        report: Report,
        records: LoginRecorder,
    ) -> None:
        self._user = user
        self._account = account
        self._begin = begin
        self._may_log_in = may_log_in
        self._chroot_of = chroot_of
        self._report = report
        self.children = Children(report, records)

    @property
    def full(self) -> bool:
        """Whether so many processes are on their way that the next request has to wait."""
        return len(self.children.pending) >= STARTING_PER_ACCOUNT

    def answer(self, request: protocol.PostauthRequest) -> None:
        """Start the process that is asked for, if it may be."""
        number, plan = request.id, request.plan
        try:
            account = process.find_account(plan.user)
        except SpawnError as error:
            self._refuse(number, str(error))
            return
        if not self._is_own(plan.user, account):
            self._refuse(number, f"{plan.user:.{process.SHOWN}} is another account")
        elif not self._may_log_in(self._user):
            self._refuse(number, f"{self._user} is not an account that may log in")
        else:
            start = partial(process.start, plan, account, self._begin, self._chroot())
            self.children.start(number, start, plan.peer)

    def _chroot(self) -> bytes | None:
        """The root directory of its sessions; None: the machine's."""
        account, pattern = self._account, self._chroot_of(self._user)
        home = os.fsencode(account.pw_dir)
        return expanded(os.fsencode(pattern), user=account.pw_name, uid=account.pw_uid, home=home) if pattern else None

    def _is_own(self, user: str, entry: pwd.struct_passwd) -> bool:
        """Whether `user`, whose entry this is, names its own account. Directories know aliases of one.

        Two accounts may share a number and have groups of their own, so the number alone does not count.
        """
        same_name = user == self._user or entry.pw_name == self._account.pw_name
        return same_name and entry.pw_uid == self._account.pw_uid

    def _refuse(self, number: int, reason: str) -> None:
        self._report(protocol.Refused(number, reason), [])

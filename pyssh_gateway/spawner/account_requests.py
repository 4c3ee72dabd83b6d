"""The requests that a postauth process may make of the spawner: processes of its own account, and nothing else.

The postauth process runs as its account already, and gets here only what that account gets at a login anyway; so a flaw
in it, or an exploit, gains nothing more. Nothing here waits. This module does not know how messages reach the postauth
process, nor whether it is alive.
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
"""How many processes of one account may be starting at a time; its next request waits. Each start takes some ten
milliseconds of a processor, and the limit leaves processors for other accounts."""


class AccountRequests:
    """Serves the postauth process of the login name `user`, whose passwd entry is `account`.

    `may_log_in` says whether the configuration still lets a user in; `chroot_of` gives the user's root directory (as in
    the configuration; empty: the machine's). The postauth process can influence neither. `report` sends an answer with
    its descriptors, and closes them. `begin` starts a child for a launch plan.
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
        """Whether so many processes are starting that the next request has to wait."""
        return len(self.children.pending) >= STARTING_PER_ACCOUNT

    def answer(self, request: protocol.PostauthRequest) -> None:
        """Start the requested process, if it is permitted."""
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
        """The root directory of the account's sessions; None: the machine's."""
        account, pattern = self._account, self._chroot_of(self._user)
        home = os.fsencode(account.pw_dir)
        return expanded(os.fsencode(pattern), user=account.pw_name, uid=account.pw_uid, home=home) if pattern else None

    def _is_own(self, user: str, entry: pwd.struct_passwd) -> bool:
        """Whether `user`, with the passwd entry `entry`, is this process's own account.

        A directory service may know an account by several names. Two accounts may share a uid and have different
        groups, so the uid alone is not enough.
        """
        same_name = user == self._user or entry.pw_name == self._account.pw_name
        return same_name and entry.pw_uid == self._account.pw_uid

    def _refuse(self, number: int, reason: str) -> None:
        self._report(protocol.Refused(number, reason), [])

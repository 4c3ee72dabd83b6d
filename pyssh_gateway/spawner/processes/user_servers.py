"""Our own programs that run as an account without an exec: what the spawner forks for a user and does not import.

What they do with what a user sends is no code of the spawner's, which has every right; `startup` hands it one function
for each. They are imported before the fork: the account may not be able to read the server's files.
"""

import pwd
from collections.abc import Callable

import msgspec

from pyssh_gateway.core.transfers.sftp_options import SftpOptions


class UserServers(msgspec.Struct, frozen=True):
    """The bodies of the processes, which are the account already when they are called.

    `sftp` serves files: standard input, standard output, the pipe for what is done to files, the options of a forced
    internal-sftp, and the account, which can't be looked up in a chroot -> exit status. `scp` is the far side of a
    copy: the words of `core.transfers.scp_command.parse`, standard input, output and error -> exit status.
    """

    sftp: Callable[[int, int, int, SftpOptions, pwd.struct_passwd], int]
    scp: Callable[[list[bytes], int, int, int], int]

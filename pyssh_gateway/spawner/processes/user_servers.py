"""Our own programs that run as an account without an exec: the spawner forks them, but does not import their code.

The spawner has root's rights, so the code that handles users' data must not be part of it; `startup` passes it one
function for each program. They are imported before the fork: the account may not be able to read the server's files.
"""

import pwd
from collections.abc import Callable

import msgspec

from pyssh_gateway.core.transfers.sftp_options import SftpOptions


class UserServers(msgspec.Struct, frozen=True):
    """The bodies of the processes, called when the process runs as the account already.

    `sftp` serves files: standard input, standard output, the pipe for file events, the options of a forced
    internal-sftp, and the account, which can't be looked up in a chroot -> exit status. `scp` is the remote side of a
    copy: the words of `core.transfers.scp_command.parse`, standard input, output and error -> exit status.
    """

    sftp: Callable[[int, int, int, SftpOptions, pwd.struct_passwd], int]
    scp: Callable[[list[bytes], int, int, int], int]

"""Which requests a client may make, if a forced `internal-sftp` limits them (sftp-server(8), -R, -P, -p)."""

from collections.abc import Callable

from pyssh_gateway.as_user.sftp import wire
from pyssh_gateway.core.transfers.sftp_options import SftpOptions, permits

NAMES = {
    wire.FXP_OPEN: "open",
    wire.FXP_CLOSE: "close",
    wire.FXP_READ: "read",
    wire.FXP_WRITE: "write",
    wire.FXP_LSTAT: "lstat",
    wire.FXP_FSTAT: "fstat",
    wire.FXP_SETSTAT: "setstat",
    wire.FXP_FSETSTAT: "fsetstat",
    wire.FXP_OPENDIR: "opendir",
    wire.FXP_READDIR: "readdir",
    wire.FXP_REMOVE: "remove",
    wire.FXP_MKDIR: "mkdir",
    wire.FXP_RMDIR: "rmdir",
    wire.FXP_REALPATH: "realpath",
    wire.FXP_STAT: "stat",
    wire.FXP_RENAME: "rename",
    wire.FXP_READLINK: "readlink",
    wire.FXP_SYMLINK: "symlink",
}
"""sftp-server.c's names of the requests that are no extensions."""

_CHANGES = wire.FXF_WRITE | wire.FXF_CREAT | wire.FXF_TRUNC

Handler = Callable[[wire.Fields], wire.Reply]


def limited(handlers: dict[int, Handler], options: SftpOptions) -> dict[int, Handler]:
    """`handlers`, in which those that are not permitted are replaced by a refusal."""
    return {kind: handler if permits(options, NAMES[kind]) else refused for kind, handler in handlers.items()}


def permits_extension(options: SftpOptions, name: bytes) -> bool:
    """Whether the extension `name`, domain included, is permitted. Others are not announced either."""
    return permits(options, name.partition(b"@")[0].decode())


def may_open(options: SftpOptions, flags: int) -> bool:
    """Whether a file may be opened with these flags of the protocol (sftp-server.c, process_open)."""
    return not options.read_only or not flags & _CHANGES


def refused(_fields: wire.Fields) -> wire.Reply:
    """The answer to a request that is not permitted."""
    return wire.status(wire.FX_PERMISSION_DENIED, "Permission denied")

"""The gateway process's first steps: open what needs the rights it was forked with, give them up, run.

Before the drop: the log, and the directory of fetched keys, which becomes the working directory. After it the process
is an account that owns nothing else and can't look at anybody's files.
"""

import asyncio
import os
import pwd
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import asyncssh

from pyssh_gateway.audit.log import AuditLog, AuditLogError
from pyssh_gateway.gateway.app import Gateway
from pyssh_gateway.keys.copies import FETCHED_DIRECTORY
from pyssh_gateway.keys.host_keys import HostKeyError, load_next, load_or_create
from pyssh_gateway.monitor.complaining import complain
from pyssh_gateway.monitor.facts import Facts
from pyssh_gateway.spawner.processes.process import become, gateway_account
from pyssh_gateway.spawner.supervisor import UNUSABLE

_OTHERS_MAY_WRITE = 0o022

CLOSE_LOG_SECONDS = 0.5
"""How long the last lines may take to get to standard output."""

LATE_MODULES = (
    *("concurrent.futures.thread", "ctypes", "difflib", "encodings.idna", "http.client", "ssl", "urllib.request"),
    "pyssh_gateway.monitor.proxied",
)
"""What is imported only when it is needed. Started from root's home directory, an account without rights can't read the
modules any more when that time comes; they are imported before the drop then."""

METRICS_MODULES = (
    "prometheus_client",
    "pyssh_gateway.monitor.reporting.figures",
    "pyssh_gateway.monitor.reporting.metrics",
)
"""The same, for who has `metrics.listen`."""


def run_gateway(
    facts: Facts,
    listening: Sequence[socket.socket],
    asking: socket.socket | None,
    metrics: socket.socket | None,
    control: socket.socket,
) -> int:
    """Be the gateway until it leaves; returns the process's exit code.

    Clients come at `listening`, questions of people on the machine at `asking`, Prometheus at `metrics`; `control`
    leads to the spawner.
    """
    owner = os.geteuid()
    try:
        # Here and not in the spawner: what is forked from that for a user must not have the key in its memory.
        keys_dir, kinds = Path(facts.config.keys_dir), facts.config.host_keys.types
        host_keys = load_or_create(keys_dir, kinds) + load_next(keys_dir, kinds)
        audit = AuditLog.open(
            Path(facts.config.audit_dir), stdout_fd=1, human=facts.human, colour=facts.colour, on_problem=complain
        )
        _prepare(facts)
    except (AuditLogError, HostKeyError, OSError) as error:
        complain(str(error))
        return UNUSABLE
    try:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            gateway = Gateway(
                facts,
                host_keys=host_keys,
                listening=listening,
                control=control,
                audit=audit,
                asking=asking,
                metrics=metrics,
                owner=owner,
                loop=loop,
            )
            return runner.run(gateway.run())
    finally:
        audit.close(CLOSE_LOG_SECONDS)


def _prepare(facts: Facts) -> None:
    """Take the working directory and the descriptors that will be needed, then give up every right."""
    account = gateway_account(facts.config.account) if os.geteuid() == 0 else None
    _enter_store(Path(facts.config.keys_dir, FETCHED_DIRECTORY), account)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if account is None:
        return
    if not _modules_readable(account.pw_uid):
        for name in LATE_MODULES + (() if facts.config.metrics.listen == "off" else METRICS_MODULES):
            import_module(name)
    os.setgroups([])
    become(account.pw_uid, account.pw_gid)


def _enter_store(store: Path, account: pwd.struct_passwd | None) -> None:
    """Make the directory of fetched keys, which is to belong to `account`, and go there.

    We may be root, and the place may be somebody's who would have us give away another directory: what is there is
    opened without following a link, and given away only if it is root's.
    """
    try:
        store.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(f"can't use {store} for fetched keys: {error.strerror}; keys_dir has to be writable") from error
    with closing_descriptor(descriptor):
        if account is not None:
            found = os.fstat(descriptor)
            if found.st_uid not in {0, account.pw_uid} or found.st_mode & _OTHERS_MAY_WRITE:
                raise OSError(f"{store} belongs to somebody else, or others may write there: remove it")
            if (found.st_uid, found.st_gid) != (account.pw_uid, account.pw_gid):
                _give_to(account, descriptor, store)
        os.fchdir(descriptor)


def _give_to(account: pwd.struct_passwd, descriptor: int, store: Path) -> None:
    try:
        os.fchown(descriptor, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise OSError(
            f"can't give {store} to {account.pw_name}, the account of the network side: {error.strerror}; put keys_dir "
            f"on a file system that has owners, or mount it so that this directory is uid {account.pw_uid}'s"
        ) from error


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[int]:
    """Close `descriptor` at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _modules_readable(uid: int) -> bool:
    """Whether `uid` could still import from where this program and its libraries are."""
    os.seteuid(uid)
    try:
        files = (os.__file__, asyncssh.__file__, __file__)
        return all(os.access(file, os.R_OK, effective_ids=True) for file in files)
    finally:
        os.seteuid(0)

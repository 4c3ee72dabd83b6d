"""The monitor process's first steps: open what needs the rights it was forked with, give them up, run.

Opened before the rights are given up: the log, and the directory of fetched keys, which becomes the working directory.
Afterwards the process runs as an account that owns nothing else and can't look at anybody's files.
"""

import asyncio
import os
import pwd
import resource
import socket
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import msgspec

from pyssh_gateway.audit.log import AuditLog, AuditLogError
from pyssh_gateway.audit.sinks.configured import Sinks
from pyssh_gateway.config.types import Config
from pyssh_gateway.ipc.crash import UNUSABLE
from pyssh_gateway.keys.copies import FETCHED_DIRECTORY
from pyssh_gateway.keys.host_keys import HostKey, HostKeyError, server_keys
from pyssh_gateway.monitor import host_certificates
from pyssh_gateway.monitor.app import Monitor
from pyssh_gateway.monitor.complaining import complain
from pyssh_gateway.monitor.facts import Facts
from pyssh_gateway.monitor.log.checkpoints import signing_key
from pyssh_gateway.monitor.log.checkpoints.signer import Signer
from pyssh_gateway.monitor.log.checkpoints.signing_key import SigningKey, SigningKeyError
from pyssh_gateway.monitor.opening import Given
from pyssh_gateway.system import privileges
from pyssh_gateway.system.accounts import monitor_account
from pyssh_gateway.system.confinement import NO_BOUNDS, attempt, confine
from pyssh_gateway.system.descriptors import closing
from pyssh_gateway.system.modes import OTHERS_MAY_WRITE
from pyssh_gateway.system.process_name import name_process
from pyssh_gateway.system.syscalls import seccomp
from pyssh_gateway.system.syscalls.profiles import MONITOR

NAME = "pyssh-monitor"
"""What `ps` calls the process."""

CLOSE_LOG_SECONDS = 0.5
"""How long the last lines may take to get to standard output."""

LATE_MODULES = (
    *("concurrent.futures.thread", "difflib", "encodings.idna", "http.client", "ssl", "urllib.request"),
    "pyssh_gateway.monitor.arrivals.proxied",
)
"""Modules that are imported only when they are needed. If the program is in root's home directory, an account without
rights can't read them at that time, so they are imported before the rights are given up."""

METRICS_MODULES = (
    "prometheus_client",
    "pyssh_gateway.monitor.reporting.figures",
    "pyssh_gateway.monitor.reporting.metrics",
)
"""The same, if `metrics.listen` is not "off"."""


def run_monitor(
    facts: Facts,
    *,
    listening: Sequence[socket.socket],
    asking: socket.socket | None,
    metrics: socket.socket | None,
    control: socket.socket,
    registry: int,
) -> int:
    """Run the monitor until it leaves; returns the process's exit code.

    Clients connect at `listening`, people on the machine ask at `asking`, and Prometheus at `metrics`; `control` leads
    to the spawner. The memfd `registry`, of `registry_file.SIZE` bytes, is passed from one monitor to the next.
    """
    name_process(NAME)
    owner = os.geteuid()
    try:
        # Loaded here and not in the spawner: a process that the spawner forks for a user must not have the keys in its
        # memory.
        own = facts.config.host_keys
        host_keys = server_keys(Path(facts.config.keys_dir), own.types, own.files)
        certificates = host_certificates.load(facts.certificates, host_keys)
        audit = AuditLog.open(
            Path(facts.config.audit_dir), stdout_fd=1, human=facts.human, colour=facts.colour, on_problem=complain
        )
        audit.send_to(Sinks.of(facts.config.audit, complain))
        key = _signing_key(facts.config)
        _prepare(facts)
    except (AuditLogError, HostKeyError, OSError) as error:
        complain(str(error))
        return UNUSABLE
    signer = Signer(key)
    given = Given(listening, control, asking, metrics, registry, owner, signer, certificates)
    try:
        with asyncio.Runner() as runner:
            return runner.run(_run(facts, given, host_keys, audit))
    finally:
        _sign_last(audit, signer)
        audit.close(CLOSE_LOG_SECONDS)


async def _run(facts: Facts, given: Given, host_keys: tuple[HostKey, ...], audit: AuditLog) -> int:
    return await Monitor(facts, given, host_keys, audit, asyncio.get_running_loop()).run()


def _signing_key(config: Config) -> SigningKey | None:
    """The key that signs checkpoints of the log. Without it nobody is locked out: there are no checkpoints."""
    try:
        key = signing_key.load_or_create(Path(config.keys_dir))
    except SigningKeyError as error:
        complain(f"the log is not signed: {error}")
        return None
    try:
        signing_key.publish(key.public, Path(config.audit_dir))
    except OSError as error:
        complain(f"the public key of the log can't be put into {config.audit_dir}: {error.strerror}")
    return key


def _sign_last(audit: AuditLog, signer: Signer) -> None:
    """Sign the whole log, with its last line, when that is on the disk."""
    claim = signer.claim(audit.tree) if audit.end() else None
    if claim is not None and (note := signer.sign(claim)):
        audit.add_checkpoint(time.time(), note)


def _prepare(facts: Facts) -> None:
    """Enter the working directory, raise the limit of descriptors, then give up every right."""
    account = monitor_account(facts.config.account) if os.geteuid() == 0 else None
    _enter_store(Path(facts.config.keys_dir, FETCHED_DIRECTORY), account)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if account is not None and not _modules_readable(account.pw_uid):
        for name in LATE_MODULES + (() if facts.config.metrics.listen == "off" else METRICS_MODULES):
            import_module(name)
    _confine(account)


def _confine(account: pwd.struct_passwd | None) -> None:
    """Become `account` if the server is root's, and sandbox the process; report what the machine can't do.

    The server of an ordinary account stays open to debuggers: an account that may look into this process may look into
    the spawner, too.
    """
    seccomp.prepare(MONITOR)  # while everything can be imported
    missing: list[str] = []
    if account is not None:
        attempt(missing, NO_BOUNDS, privileges.empty_bounding_set)
        os.setgroups([])
        privileges.become(account.pw_uid, account.pw_gid)
    for wall in missing + confine(MONITOR, undumpable=account is not None):
        complain(f"around the monitor: {wall}")


def _enter_store(store: Path, account: pwd.struct_passwd | None) -> None:
    """Make the directory of fetched keys, which is to belong to `account`, and make it the working directory.

    We may be root, and a user who owns the place could try to make us give away another directory. So the directory is
    opened without following a link, and given away only if it is root's.
    """
    try:
        store.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(f"can't use {store} for fetched keys: {error.strerror}; keys_dir has to be writable") from error
    with closing(descriptor):
        if account is not None:
            found = os.fstat(descriptor)
            if found.st_uid not in {0, account.pw_uid} or found.st_mode & OTHERS_MAY_WRITE:
                raise OSError(f"{store} belongs to somebody else, or others may write there: remove it")
            if (found.st_uid, found.st_gid) != (account.pw_uid, account.pw_gid):
                _give_to(account, descriptor, store)
        os.fchdir(descriptor)


def _give_to(account: pwd.struct_passwd, descriptor: int, store: Path) -> None:
    try:
        os.fchown(descriptor, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise OSError(
            f"can't give {store} to {account.pw_name}, the account of the monitor: {error.strerror}; put keys_dir on a "
            f"file system that has owners, or mount it so that this directory is uid {account.pw_uid}'s"
        ) from error


def _modules_readable(uid: int) -> bool:
    """Whether `uid` could still import from where this program and its libraries are."""
    os.seteuid(uid)
    try:
        files = (os.__file__, msgspec.__file__, __file__)
        return all(os.access(file, os.R_OK, effective_ids=True) for file in files)
    finally:
        os.seteuid(0)

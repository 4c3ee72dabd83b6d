"""`pyssh-gateway serve`: from the command line to a running spawner, in the order that is fastest for a waiting client.

A client may be waiting for this very start, so the socket is bound before anything heavy is imported. All problems are
found and reported before the monitor is forked, so that either everything runs or nothing does.
"""

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, MutableMapping

from pyssh_gateway.config import source
from pyssh_gateway.spawner.hang_up import Terminal
from pyssh_gateway.startup.listening import CannotStart, listen_once, open_sockets, say

TYPE_CHECKING = False  # type checkers know the name; importing it would take longer than binding the socket
if TYPE_CHECKING:
    from collections.abc import Callable
    from pwd import struct_passwd

    from pyssh_gateway.config.types import Config
    from pyssh_gateway.ipc.config_origin import ConfigOrigin
    from pyssh_gateway.ipc.crash import Crash
    from pyssh_gateway.ipc.reread import Reread
    from pyssh_gateway.spawner.processes.user_servers import UserServers
    from pyssh_gateway.spawner.requests import Permissions
    from pyssh_gateway.spawner.stop_commands import StopCommands

_X509 = "asyncssh.crypto.x509"

USAGE_ERROR = 2
"""Exit code for a configuration or a machine that prevents the start."""


class Options:
    """The command line of `serve`. `overrides` take precedence over the configuration, as `port` does."""

    def __init__(
        self,
        *,
        config: str | None,
        port: int | None,
        trial: bool,
        user: str | None,
        github: str | None,
        overrides: Mapping[str, object] | None = None,
    ) -> None:
        self.config = config
        self.port = port
        self.trial = trial
        self.user = user
        self.github = github
        self.overrides = overrides or {}


def serve(options: Options, environ: MutableMapping[str, str]) -> int:
    """Run the server; returns its exit code. Raises `CannotStart` or `config_source.ConfigError`.

    The variables in `environ` about sockets that were passed to us are removed: no child may use them.
    """
    keep_standard_descriptors()
    keep_signals()
    terminal = Terminal()
    overrides = dict(options.overrides) | ({} if options.port is None else {"listen.port": options.port})
    raw = source.read(options.config, environ, overrides)
    problems: list[str] = []
    listening: list[socket.socket] = []
    login: dict[str, object] | None = None
    try:
        listening = open_sockets(source.listen_endpoints(raw), environ)
    except CannotStart as error:  # reported together with all other problems
        problems += error.problems

    # Late: msgspec, and modules that are not needed before clients can connect.
    from pyssh_gateway.config import parser as config_module
    from pyssh_gateway.ipc.config_origin import ConfigOrigin
    from pyssh_gateway.startup import state_lock
    from pyssh_gateway.startup.banner_file import with_text
    from pyssh_gateway.startup.preflight import start_problems

    identity = ""
    passed_over: Mapping[str, str] = {}
    try:
        config = config_module.parse(raw)
        if options.trial and config.login:
            problems += _left_out(options, raw.path)
        elif options.trial:
            login, identity = _trial_login(options, config.keys_dir, environ.get("SUDO_USER", ""))
            config = config_module.parse(source.read(options.config, environ, overrides | {"login": [login]}))
        if options.trial:
            _make_trial_account(config.preauth_account)
        config, unreadable = with_text(config)
        found, passed_over = start_problems(config)
        problems += unreadable + found
        problems += state_lock.problems(config) if problems else state_lock.take(config)
    except (source.ConfigError, CannotStart) as error:
        problems += error.problems
    if problems or not listening:
        raise CannotStart(*problems)
    _have_a_home(environ)
    for path, why in passed_over.items():
        say(f"! key file {path} {why}: NOBODY GETS IN BY IT until that changes; other keys count meanwhile")

    def reread(in_force: "Config") -> "Reread":
        from pyssh_gateway.startup import reread  # late: most servers never need it
        from pyssh_gateway.startup.preflight import revoked_list_problems

        return reread.read_again(
            options.config,
            environ,
            overrides,
            trial_login=login,
            problems_of=lambda config: [*start_problems(config)[0], *revoked_list_problems(config).values()],
            in_force=in_force,
        )

    said: dict[str, object] = {**overrides} if login is None else {**overrides, "login": [login]}
    origin = ConfigOrigin(os.getcwd(), options.config, source.relevant(environ), said)  # noqa: PTH109 - as a text
    return _supervise(
        config, listening, identity, environ, terminal=terminal, reread=reread, origin=origin, trial=options.trial
    )


def _have_a_home(environ: MutableMapping[str, str]) -> None:
    """Set HOME if it is missing: systemd does not set it for system services (systemd.exec(5), User=).

    asyncssh reads it even where it does not use it, and in processes that can't look up the account any more.
    """
    from pwd import getpwuid

    if "HOME" not in environ:
        try:
            environ["HOME"] = getpwuid(os.geteuid()).pw_dir
        except KeyError:
            environ["HOME"] = "/"


def keep_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1 and 2 that is closed: otherwise the next opened file would get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for number, name in ((1, "stdout"), (2, "stderr")):  # None in Python if it was closed
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def keep_signals() -> None:
    """Block signals that arrive during the start, until the spawner has handlers for them.

    A SIGHUP, which asks a server to read its configuration again, would kill one that is still starting. And for the
    first process of a container, the kernel drops all signals that it neither handles nor blocks: the platform's stop
    signal would be lost.
    """
    others = {signal.SIGTERM, signal.SIGINT} if os.getpid() == 1 else set()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, *others})


def _left_out(options: Options, path: str | None) -> list[str]:
    """The problem of --user and --github with a configuration that has a [[login]] already."""
    names = {"--github": options.github, "--user": options.user}
    given = " and ".join(f"{name} {value}" for name, value in names.items() if value)
    if not given:
        return []
    where = "the configuration" if path is None else source.printable(path)
    remedy = f'add "github:{options.github}" to the keys of a [[login]] there, or leave' if options.github else "leave"
    return [f"{given}: {where} has a [[login]], which says who may log in; {remedy} {given} out"]


def _trial_login(options: Options, keys_dir: str, sudo_user: str) -> tuple[dict[str, object], str]:
    """The `[[login]]` of a trial, and the private key for the client's command line, if one is needed."""
    from pathlib import Path

    from pyssh_gateway.startup import trial  # late: trials only

    try:
        tried = trial.set_up(options.user, options.github, Path(keys_dir), sudo_user)
    except trial.TrialError as error:
        raise CannotStart(str(error)) from None
    for remark in tried.remarks:
        say(remark)
    return tried.login, tried.identity


def _make_trial_account(name: str) -> None:
    """For a trial that root has started: make the account `name` of preauth processes, if it is missing."""
    from pyssh_gateway.startup import trial  # late: trials only

    try:
        remark = trial.make_preauth_account(name)
    except trial.TrialError as error:
        raise CannotStart(str(error)) from None
    if remark is not None:
        say(remark)


def stop_commands(config: "Config", environ: Mapping[str, str]) -> "StopCommands":
    """The commands of a stop, and the request to Fly's API, made from `environ`. The monitor can't change them.

    The commands get the environment without the server's own settings, which may contain a token.
    """
    from pyssh_gateway.core.idle.warnings import WEB
    from pyssh_gateway.machine import fly
    from pyssh_gateway.spawner.stop_commands import StopCommands

    request, why_not = b"", "stop.fly_api is off"
    if config.stop.fly_api != "off":
        try:
            request = fly.suspend_request(environ)
        except fly.NotOnFly as error:
            why_not = str(error)
    if config.stop.action == "suspend" and not request:
        say(f"stop.action is suspend, which can't be: {why_not}; an idle stop ends the server instead")
    return StopCommands(
        commands=(*config.stop.hooks, config.stop.command),
        environ={name: value for name, value in environ.items() if not name.startswith(source.PREFIX)},
        api=fly.SOCKET if config.stop.fly_api == "auto" else config.stop.fly_api,
        request=request,
        no_suspend=why_not,
        warnings=tuple("" if entry.startswith(WEB) else str(entry) for entry in config.stop.warn),
    )


def _supervise(
    config: "Config",
    listening: list[socket.socket],
    identity: str,
    environ: MutableMapping[str, str],
    *,
    terminal: Terminal,
    reread: "Callable[[Config], Reread]",
    origin: "ConfigOrigin",
    trial: bool,
) -> int:
    from pyssh_gateway.spawner.boot import steps
    from pyssh_gateway.spawner.processes import oom
    from pyssh_gateway.startup import beside_sockets, session_command
    from pyssh_gateway.startup.preflight import certificate_files

    users = frozenset(login.user for login in config.login)
    try:
        booting = steps.begin(config.boot, users)  # in parallel with the imports, which take longer
    except OSError as error:
        raise CannotStart(f"boot: can't start a process: {error.strerror}") from None
    sockets = beside_sockets.begin(config, listen_once, say)

    from importlib import import_module
    from pathlib import Path

    from pyssh_gateway.audit import human_view
    from pyssh_gateway.ipc import control_socket
    from pyssh_gateway.monitor.facts import Facts
    from pyssh_gateway.spawner.processes.server_process import Assignment, ServerProcesses
    from pyssh_gateway.spawner.reload import Reloading
    from pyssh_gateway.spawner.supervisor import Supervisor
    from pyssh_gateway.startup.log_work import log_work

    command = session_command.provide(control_socket.server_path(config.control, config.keys_dir), trial=trial)
    if command.remark:
        say(command.remark)
    monitor = import_module("pyssh_gateway.monitor.main")
    wants_human = human_view.wants_human(1, config.log.format)
    facts = Facts(
        config=config,
        human=wants_human,
        colour=wants_human and human_view.wants_colour(1, environ.get("TERM"), environ.get("NO_COLOR")),
        identity=identity,
        started=time.time(),
        timezone=environ.get("TZ"),
        origin=origin,
        certificates=certificate_files(config),
    )

    def run_monitor(control: socket.socket, generation: int, crashes: "tuple[Crash, ...]", registry: int) -> int:
        import msgspec

        place = control_socket.server_path(config.control, config.keys_dir) if sockets.expects("control") else None
        now = msgspec.structs.replace(
            facts, config=reloading.config, generation=generation, crashes=crashes, control=place
        )
        asking, metrics = sockets.bound.get("control"), sockets.bound.get("metrics")
        return int(
            monitor.run_monitor(
                now, listening=listening, asking=asking, metrics=metrics, control=control, registry=registry
            )
        )

    def run_preauth(control: socket.socket) -> int:
        preauth = import_module("pyssh_gateway.preauth.main")
        return int(preauth.run_preauth(control, preauth.Walls(*walls)))

    def run_postauth(assignment: Assignment) -> int:
        return int(import_module("pyssh_gateway.postauth.main").run_postauth(assignment, command.directory))

    def run_recorder(control: socket.socket) -> int:
        now = reloading.config
        return int(import_module("pyssh_gateway.recorder.main").run_recorder(control, Path(now.audit_dir), now.account))

    def monitor_keeps() -> frozenset[int]:
        return frozenset(each.fileno() for each in (*listening, *sockets.bound.values()))

    walls = walls_around_strangers(config.preauth_account)
    reloading = Reloading(
        config,
        read=reread,
        permissions_of=lambda config: permissions(config, environ),
    )
    servers = user_servers()
    freeze()
    supervisor = Supervisor(
        ServerProcesses(run_monitor, run_preauth, run_postauth, run_recorder, import_ssh, monitor_keeps),
        reloading.permissions,
        config.stop.drain,
        user_servers=servers,
        terminal=terminal,
        reloading=reloading,
        log_work=log_work(Path(config.audit_dir)),
        services=config.boot.service,
        booting=booting,
        late=sockets,
        oom_score=oom.protect(),
    )
    try:
        return supervisor.run()
    finally:
        command.take_away()


def walls_around_strangers(account: str) -> "tuple[struct_passwd, Callable[[], int]] | tuple[None, None]":
    """The account of preauth processes, and a function that opens their root directory; both None without root."""
    if os.geteuid() != 0:
        return None, None
    from pwd import getpwnam

    from pyssh_gateway.startup.empty_directory import UnfitDirectory, open_empty_directory

    try:
        os.close(open_empty_directory())
        return getpwnam(account), open_empty_directory
    except (UnfitDirectory, KeyError) as error:
        raise CannotStart(str(error)) from None


def user_servers() -> "UserServers":
    """The built-in SFTP and scp servers, which run as the user's account."""
    from pyssh_gateway.as_user.scp import server as scp
    from pyssh_gateway.as_user.sftp import server as sftp
    from pyssh_gateway.spawner.processes.user_servers import UserServers

    return UserServers(sftp=sftp.serve, scp=scp.serve)


def permissions(config: "Config", environ: Mapping[str, str]) -> "Permissions":
    """The requests that the spawner permits under `config`."""
    from pyssh_gateway.core.recordings.rules import recording
    from pyssh_gateway.spawner.requests import Permissions
    from pyssh_gateway.startup.preflight import readable_files

    users = frozenset(login.user for login in config.login)
    chroots = {login.user: login.chroot for login in config.login if login.chroot}
    return Permissions(users, readable_files(config), stop_commands(config, environ), chroots, recording(config))


def freeze() -> None:
    """Exclude all present objects from garbage collection, so that it does not write to pages that forks share."""
    gc.collect()
    gc.freeze()


def import_ssh() -> None:
    """Import the code of preauth and postauth processes, after the fork of the monitor, which does not need it.

    A user waits for this import, so unused parts are left out: asyncssh looks for two optional C libraries with
    `find_library`, which runs ldconfig and a compiler (40 ms), and imports X.509 certificates, which are optional.
    Garbage collection would cost a tenth of the time, and find almost nothing.
    """
    import ctypes.util
    from importlib import import_module

    from pyssh_gateway.system.syscalls.profiles import POSTAUTH, PREAUTH
    from pyssh_gateway.system.syscalls.seccomp import prepare

    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None  # noqa: ARG005 - the signature is ctypes's
    sys.modules[_X509] = None  # type: ignore[assignment]  # makes its import fail, as if it were not installed
    gc.disable()
    try:
        for module in ("pyssh_gateway.preauth.main", "pyssh_gateway.postauth.main"):
            import_module(module)
        for profile in (PREAUTH, POSTAUTH):
            prepare(profile)  # a millisecond for each fork otherwise
    finally:
        gc.enable()
        del sys.modules[_X509]
        ctypes.util.find_library = find_library
    freeze()

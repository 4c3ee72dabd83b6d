"""`keys rotate-host` and `keys import-host`: deliberate changes of the server's own keys."""

import time
from pathlib import Path

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.request import ask
from pyssh_gateway.cli.server_socket import Places
from pyssh_gateway.config.types import Config
from pyssh_gateway.config.values import format_duration
from pyssh_gateway.core.control import Status, StatusReply
from pyssh_gateway.ipc.control_socket import client_paths
from pyssh_gateway.keys import host_key_changes as changes
from pyssh_gateway.keys.host_keys import HostKeyError, load_next


def rotate(given: Given, context: Context) -> int:
    """One step of a rotation: make the next key, replace the one in use by it, or remove it."""
    if given.now and not given.finish:
        raise WrongUsage("--now goes with --finish")
    if given.finish and given.abort:
        raise WrongUsage("--finish and --abort are two different things")
    try:
        _rotate(given, context.config)
    except HostKeyError as error:
        raise Failed(str(error)) from None
    return FINE


def _rotate(given: Given, config: Config) -> None:
    keys_dir = Path(config.keys_dir)
    if given.finish or given.abort:
        kinds = given.type or changes.kinds_waiting(keys_dir)
        if not kinds:
            raise Failed(f"no key in {keys_dir} waits to follow the one in use: make it with keys rotate-host")
        if given.finish and not given.now:
            _check_announced(keys_dir, kinds, config)
        printing.lines(_finish(keys_dir, kinds, now=given.now) if given.finish else _abort(keys_dir, kinds))
    else:
        printing.lines(_begin(keys_dir, given.type or config.host_keys.types, config))


def _begin(keys_dir: Path, kinds: tuple[str, ...], config: Config) -> list[str]:
    not_served = [kind for kind in kinds if kind not in config.host_keys.types]
    if not_served:
        raise Failed(f"host_keys.types in the configuration does not have {', '.join(not_served)}")
    lines = []
    for change in changes.prepare_next(keys_dir, kinds):
        made = "new" if change.done else "there already"
        lines.append(f"next {change.kind} key, {made}: {change.fingerprint}  ({change.path})")
    wait = format_duration(changes.LEARNING_SECONDS)
    return [
        *lines,
        "",
        "From its next start on, the server announces it beside the one in use, and clients that have UpdateHostKeys",
        "on (OpenSSH has, unless the host is in a system-wide file) learn it when they log in.",
        f"When everybody has logged in once, and not within {wait}: pyssh-gateway keys rotate-host --finish",
        "To stay with the one in use: pyssh-gateway keys rotate-host --abort",
    ]


def _check_announced(keys_dir: Path, kinds: tuple[str, ...], config: Config) -> None:
    """Raise Failed if the running server does not announce the next keys: then no client has learned them."""
    where = Places(None, client_paths(config.control, config.keys_dir))
    try:
        announced = {key.fingerprint for key in ask(where, Status(), StatusReply).reply.host_keys}
    except Failed:  # it can't be found out
        return
    for key in load_next(keys_dir, kinds):
        if key.fingerprint not in announced:
            raise Failed(
                f"the running server does not announce {key.fingerprint} yet: restart it, and give clients time to "
                f"learn the key; or finish all the same with --now"
            )


def _finish(keys_dir: Path, kinds: tuple[str, ...], *, now: bool) -> list[str]:
    minimum = 0.0 if now else changes.LEARNING_SECONDS
    try:
        done = changes.finish(keys_dir, kinds, now=time.time(), minimum_age=minimum)
    except changes.TooEarlyError as error:
        raise Failed(f"{error}; wait, or finish all the same with --now") from None
    return [
        *(f"the {change.kind} key is now {change.fingerprint}  ({change.path})" for change in done),
        "",
        "The server uses it from its next start on. Clients that have not learned it will be warned of a changed key.",
        f"The one before is kept as {keys_dir}/*{changes.OLD_SUFFIX}, and nothing uses it.",
    ]


def _abort(keys_dir: Path, kinds: tuple[str, ...]) -> list[str]:
    done = changes.abort(keys_dir, kinds)
    return [f"the next {change.kind} key is gone: {change.fingerprint}; the one in use stays" for change in done]


def import_(given: Given, context: Context) -> int:
    """Take over the keys of an sshd that this server replaces."""
    config = context.config
    try:
        found = changes.import_from(Path(given.directory), Path(config.keys_dir))
    except HostKeyError as error:
        raise Failed(str(error)) from None
    for change in found:
        done = "imported" if change.done else "here already"
        printing.lines([f"{change.kind} key {done}: {change.fingerprint}  ({change.path})"])
    kinds = tuple(dict.fromkeys((*config.host_keys.types, *(change.kind for change in found))))
    if kinds != config.host_keys.types:
        listed = ", ".join(f'"{kind}"' for kind in kinds)
        printing.lines(
            ["", "To use all of them, put this into the configuration:", "", "[host_keys]", f"types = [{listed}]"]
        )
    printing.lines(["", "The server uses them from its next start on."])
    return FINE

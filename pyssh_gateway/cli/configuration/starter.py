"""`config init`: a first configuration, with comments about the other settings.

The result can be used as it is: the account and its keys exist.
"""

import os
import pwd
from pathlib import Path

from pyssh_gateway.cli.configuration.effective import toml
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.config.values import check_source_spec

STANDARD_OUTPUT = "-"

MODE = 0o644
"""As sshd_config's: who may log in is no secret, and every account's `pyssh-gateway status` reads where to ask."""

FIRST_PERSON = 1000
LAST_PERSON = 59999
"""The uids of people: Debian Policy section 9.2.2, and UID_MIN and UID_MAX of login.defs(5)."""

_TEMPLATE = """\
# The accounts that people may log in to, and when the machine is no longer needed.
#
# What is commented out is a default. docs/configuration.md has every key, and `pyssh-gateway config show` what is in
# force. After a change: `pyssh-gateway check`, then `systemctl reload pyssh-gateway` or SIGHUP; sessions go on.

# The server's own keys and copies of people's, and the event log: on a disk that outlives the machine.
keys_dir = {keys_dir}
audit_dir = {audit_dir}

# One [[login]] for each account. `keys` says where the public keys come from: github:<login>, gitlab:<login>,
# url:https://..., file:<path of an authorized_keys file>, ca:<path of an authority's public key>. Keep one that needs
# no network: nobody gets in by the others while the machine is new and their server can't be reached.
[[login]]
user = {user}
keys = [{keys}]
# forwarding = "all"
# force_command = ""

[listen]
# address = "0.0.0.0"
# port = 2222

[keys]
# How often they are asked for again, and whether a connection ends when its key has been removed.
# refresh = "10m"
# on_revoke = "end"

[idle]
# How long nobody may be on before the server ends; "off" for a machine that stays.
# timeout = "2m"
# How long a client may be on without use before it counts as nobody.
# client_idle = "20m"
# How long a client is waited for that was lost: a closed lid.
# lost_client_grace = "5m"
# Whether what sessions leave running keeps the machine up while it works ("cpu"), or not ("ignore").
# background = "cpu"
# Hours in which it stays up: ["mon-fri 08:00-18:00"].
# schedule = []
# timezone = "UTC"

[session]
# keepalive = "30s"
# banner = true

[forwarding]
# agent = true
# x11 = false

[stop]
# How long processes have to end at a stop, and what an idle machine does: "exit", "suspend" (Fly.io) or "command".
# drain = "4s"
# action = "exit"
# hooks = []
"""


def init(given: Given, _context: Context) -> int:
    """Write the file, or print it. Raises Failed, also if the file exists already."""
    text = starter(user=given.user, github=given.github, key_file=given.keys)
    if given.file in {None, STANDARD_OUTPUT}:
        printing.lines(text.splitlines())
        return FINE
    path = Path(given.file)
    _write(path, text)
    printing.lines([f"made {path}; next: pyssh-gateway check --config {path}"])
    return FINE


def starter(*, user: str | None = None, github: str | None = None, key_file: str | None = None) -> str:
    """The text of the configuration. Raises Failed if no account or no keys for it can be found.

    Without `user` it is the account that runs this command, or that called sudo. Without `github` and `key_file`, the
    keys are those in the account's ~/.ssh/authorized_keys.
    """
    entry = _account(user)
    specs = [f"github:{github}"] if github else []
    specs += [f"file:{Path(key_file).absolute()}"] if key_file else []
    specs = specs or [f"file:{_authorized_keys(entry)}"]
    for spec in specs:
        if problem := check_source_spec(spec):
            raise Failed(problem)
    state, log = places()
    return _TEMPLATE.format(
        keys_dir=toml(state), audit_dir=toml(log), user=toml(entry.pw_name), keys=", ".join(map(toml, specs))
    )


def _account(user: str | None) -> pwd.struct_passwd:
    try:
        if user:
            return pwd.getpwnam(user)
        if os.geteuid() != 0:
            return pwd.getpwuid(os.geteuid())
    except KeyError:
        raise Failed(
            f"there is no account {user}; make it first (useradd --create-home {user}), or name another"
        ) from None
    people = [entry for entry in pwd.getpwall() if FIRST_PERSON <= entry.pw_uid <= LAST_PERSON]
    if len(people) != 1:
        found = (
            f"there are {', '.join(entry.pw_name for entry in people)}" if people else "there is none of a person here"
        )
        raise Failed(f"say which account is to be logged in to with --user NAME; {found}")
    return people[0]


def _authorized_keys(entry: pwd.struct_passwd) -> Path:
    path = Path(entry.pw_dir, ".ssh", "authorized_keys")
    try:
        found = path.stat().st_size > 0
    except OSError:
        found = False
    if not found:
        raise Failed(f"say whose keys let in to {entry.pw_name}: --github LOGIN, or --keys FILE (there is no {path})")
    return path


def places() -> tuple[str, str]:
    """The directories of state and log: those of the systemd units for root, else XDG's directory for state."""
    if os.geteuid() == 0:
        return "/var/lib/pyssh-gateway", "/var/log/pyssh-gateway"
    state = Path(pwd.getpwuid(os.geteuid()).pw_dir, ".local", "state", "pyssh-gateway")
    return str(state / "keys"), str(state / "audit")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except FileExistsError:
        raise Failed(f"{path} is there already, and stays as it is: name another file, or move it away") from None
    except OSError as error:
        raise Failed(f"can't make {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)

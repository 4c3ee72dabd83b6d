"""The configuration, read again while the server runs: checked as at a start, and for changes that need a restart.

Runs in a short-lived child of the spawner (`spawner.reload`). The caller checks the accounts and directories.
"""

from collections.abc import Callable, Mapping

from pyssh_gateway.config import parser as config
from pyssh_gateway.config import source
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.reload import settle
from pyssh_gateway.ipc.reread import Reread
from pyssh_gateway.startup import banner_file

MAX_PROBLEMS = 100
"""How many problems are reported: they are one line of the log, and `pyssh-gateway check` prints the rest."""


def read_again(
    path: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    *,
    trial_login: Mapping[str, object] | None,
    problems_of: Callable[[Config], list[str]],
    in_force: Config,
) -> Reread:
    """Read the file `path` (None: search for the file) while `in_force` is in force; returns the outcome.

    `trial_login` is used while the configuration has no login, as at the start.
    """
    try:
        found = config.parse(source.read(path, environ, overrides))
        if trial_login is not None and not found.login:
            found = config.parse(source.read(path, environ, {**overrides, "login": [trial_login]}))
    except source.ConfigError as error:
        return _rejected(list(error.problems))
    found, problems = banner_file.with_text(found)
    settled = settle(in_force, found)
    problems += problems_of(settled.config)
    if problems:
        return _rejected(problems)
    return Reread(settled.config, settled.changed, settled.restart)


def _rejected(problems: list[str]) -> Reread:
    more = len(problems) - MAX_PROBLEMS
    told = problems if more <= 0 else [*problems[:MAX_PROBLEMS], f"and {more} more: pyssh-gateway check lists them"]
    return Reread(None, problems=tuple(told))

"""The command line: find the subcommand, import what it needs and nothing else, turn its outcome into an exit code."""

import os
import sys

USAGE = """\
usage: pyssh-gateway serve [--config FILE] [--port N] [--debug]
       pyssh-gateway serve --trial [--user NAME] [--github LOGIN]
       pyssh-gateway hold DURATION [REASON...] | hold [DURATION] [REASON...] -- COMMAND ... | release [HOLD | --all]
       pyssh-gateway status | sessions | why | check [--config FILE] [--json]
       pyssh-gateway keys [--config FILE] [--json] [--randomart]
       pyssh-gateway keys refresh | test | accept | rotate-host | import-host ... (--help says more)
       pyssh-gateway sftp-server
       pyssh-gateway --version | --help

  --config FILE   configuration (default: $PYSSH_GATEWAY_CONFIG, then /etc/pyssh-gateway/config.toml)
  --port N        listen on this port (default 2222)
  --debug         a second server beside the one in use, to watch a login; name another port, as for sshd -d
  --trial         without a [[login]] in the configuration: let in the account that starts the server
  --user NAME     with --trial as root: the account to log in to, made if it is missing
  --github LOGIN  with --trial: with the keys of this GitHub account instead of those in ~/.ssh
"""

USAGE_ERROR = 2


def main() -> int:
    """Run the command in `sys.argv`; returns the exit code."""
    arguments = sys.argv[1:]
    match arguments:
        case ["--version"]:
            from pyssh_gateway import __version__

            print(f"pyssh-gateway {__version__}")
            return 0
        case ["--help" | "-h"] | ["serve", "--help" | "-h"]:
            print(USAGE, end="")
            return 0
        case ["serve", *rest]:
            return _serve(rest)
        case ["hold" | "release", *_]:
            from pyssh_gateway.cli.hold import run as hold

            return hold(arguments, os.environ)
        case ["status" | "sessions" | "why" | "check" | "keys", *_]:
            from pyssh_gateway.cli.main import run

            return run(arguments, os.environ)
        case ["sftp-server"]:  # named in SSH_ORIGINAL_COMMAND where the machine has none
            from pyssh_gateway.as_user.sftp.command import serve

            return serve()
        case _:
            return _wrong_usage("expected a command" if not arguments else f"unknown command {arguments[0]}")


def _serve(arguments: list[str]) -> int:
    """`serve`, its few options read by hand: argparse would cost a third of the time that binding the port takes."""
    from pyssh_gateway.config.source import ConfigError
    from pyssh_gateway.startup.listening import CannotStart
    from pyssh_gateway.startup.serve import Options, serve

    values: dict[str, str | None] = {"--config": None, "--port": None, "--user": None, "--github": None}
    trial = debug = False
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--trial":
            trial = True
        elif argument == "--debug":
            debug = True
        elif name in values:
            given = value if equals else next(rest, None)
            if given is None:
                return _wrong_usage(f"{name} needs a value")
            values[name] = given
        else:
            return _wrong_usage(f"unknown option {argument}")
    if not trial and (values["--user"] or values["--github"]):
        return _wrong_usage("--user and --github go with --trial")
    try:
        port = None if values["--port"] is None else int(values["--port"])
    except ValueError:
        return _wrong_usage(f"--port takes a number, not {values['--port']}")
    options = Options(
        config=values["--config"], port=port, trial=trial, user=values["--user"], github=values["--github"]
    )
    try:
        if debug:
            from pyssh_gateway.startup.debug import serve_debug

            return serve_debug(options, os.environ)
        return serve(options, os.environ)
    except (CannotStart, ConfigError) as error:
        for problem in error.problems:
            print(f"pyssh-gateway: {problem}", file=sys.stderr)
        return USAGE_ERROR


def _wrong_usage(problem: str) -> int:
    print(f"pyssh-gateway: {problem}\n\n{USAGE}", end="", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())

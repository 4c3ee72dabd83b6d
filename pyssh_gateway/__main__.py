"""The command line: find the subcommand, import what it needs and nothing else, turn its outcome into an exit code."""

import os
import sys

USAGE_ERROR = 2

INTERRUPTED = 130
"""Ctrl-C, as shells have it: 128 and the number of the signal."""


def main() -> int:
    """Run the command in `sys.argv`; returns the exit code."""
    arguments = sys.argv[1:]
    match arguments:
        case ["serve", *rest] if "--help" not in rest and "-h" not in rest:
            return _serve(rest)
        case ["sftp-server"]:  # named in SSH_ORIGINAL_COMMAND where the machine has none
            from pyssh_gateway.as_user.sftp.command import serve

            return serve()
        case _:
            try:
                from pyssh_gateway.cli.main import run

                return run(arguments, os.environ)
            except KeyboardInterrupt:  # while it is being imported
                return INTERRUPTED


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
                return _wrong_usage(arguments, f"{name} needs a value")
            values[name] = given
        else:
            return _wrong_usage(arguments, f"unknown option {argument}")
    if not trial and (values["--user"] or values["--github"]):
        return _wrong_usage(arguments, "--user and --github go with --trial")
    try:
        port = None if values["--port"] is None else int(values["--port"])
    except ValueError:
        return _wrong_usage(arguments, f"--port takes a number, not {values['--port']}")
    options = Options(
        config=values["--config"], port=port, trial=trial, user=values["--user"], github=values["--github"]
    )
    try:
        if debug:
            from pyssh_gateway.startup.debug import serve_debug

            return serve_debug(options, os.environ)
        return serve(options, os.environ)
    except (CannotStart, ConfigError) as error:
        from pyssh_gateway.cli.output.printing import remark  # late: nobody waits for a server that does not start

        for problem in error.problems:
            remark(problem)
        return USAGE_ERROR


def _wrong_usage(arguments: list[str], problem: str) -> int:
    from pyssh_gateway.cli.main import refuse_serve  # late: nobody waits for a server that does not start

    return refuse_serve(arguments, problem)


if __name__ == "__main__":
    sys.exit(main())

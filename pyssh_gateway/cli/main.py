"""From the arguments to one command, and from whatever went wrong to an exit code."""

import argparse
from collections.abc import Callable, Mapping, Sequence

from pyssh_gateway.cli import check, host_keys, keys, printing, status, streams, why
from pyssh_gateway.cli.configuration.lookup import Lookup, look_up
from pyssh_gateway.cli.exit_codes import FINE, NO, WRONG_USAGE, Failed
from pyssh_gateway.cli.request import ask_at
from pyssh_gateway.cli.server_socket import places, read_config
from pyssh_gateway.config import source
from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.source import ConfigError
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.control import ConfigReply, Configuration
from pyssh_gateway.keys.host_keys import HostKeyError

Command = Callable[[argparse.Namespace, Config], int]

Question = Callable[[argparse.Namespace, Sequence[str]], int]
"""A command that only asks the server at one of these places, for accounts that can't read the configuration."""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command in `arguments`; returns the exit code."""
    streams.prepare()
    try:
        given = parser().parse_args(arguments)
    except SystemExit as leave:  # argparse has said what is wrong, or helped
        return WRONG_USAGE if leave.code else FINE
    try:
        if "question" in given:
            raw = read_config(given.config, environ)
            parse(raw)  # mistakes are said, whatever is needed of it
            question: Question = given.question
            code = question(given, places(raw, given.config, environ))
        elif "lookup" in given:
            lookup: Callable[[argparse.Namespace, Lookup], int] = given.lookup
            code = lookup(given, look_up(given.config, environ, _asking(environ)))
        else:
            command: Command = given.command
            code = command(given, parse(source.read(given.config, environ, {})))
        printing.flush()
    except ConfigError as error:
        problems, code = error.problems, WRONG_USAGE
    except HostKeyError as error:
        problems, code = (str(error),), NO
    except Failed as error:
        problems, code = error.reasons, NO
    except BrokenPipeError:  # `pyssh-gateway keys | head`
        streams.give_up()
        return NO
    else:
        return code
    for problem in problems:
        printing.remark(problem)
    return code


def _asking(environ: Mapping[str, str]) -> Callable[[], ConfigReply]:
    """What asks the running server for its configuration."""

    def ask() -> ConfigReply:
        return ask_at(places(read_config(None, environ), None, environ), Configuration(), ConfigReply)

    return ask


def parser() -> argparse.ArgumentParser:
    """The options of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="configuration, as for serve")
    as_json = argparse.ArgumentParser(add_help=False, parents=[common])
    as_json.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for programs, on one line")

    top = argparse.ArgumentParser(prog="pyssh-gateway", allow_abbrev=False)
    top.set_defaults(config=None, json=False)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("status", parents=[as_json], help="who is on, and how the server is")
    one.set_defaults(question=status.status)
    one = commands.add_parser("sessions", parents=[as_json], help="who runs what")
    one.set_defaults(question=why.sessions)
    one = commands.add_parser("why", parents=[as_json], help="what keeps the machine up, and when it stops")
    one.set_defaults(question=why.why)
    one = commands.add_parser("check", parents=[as_json], help="what the configuration would let in, without a server")
    one.add_argument(
        "--elsewhere", action="store_true", help="it is for another machine: leave out what depends on that"
    )
    one.set_defaults(lookup=check.check)

    family = commands.add_parser("keys", parents=[as_json], help="who can log in with what, and how fresh that is")
    family.set_defaults(command=keys.show, randomart=False)
    family.add_argument("--randomart", action="store_true", help="with each key's picture")
    members = family.add_subparsers(metavar="COMMAND")

    one = members.add_parser("refresh", parents=[as_json], help="ask every source now")
    one.set_defaults(command=keys.refresh)
    one = members.add_parser("test", parents=[as_json], help="would this key be let in, and why not")
    one.add_argument("file", help="a public key or certificate, - for standard input")
    one.add_argument("--user", default="", help="for this account only")
    one.add_argument(
        "--from", dest="peer", default="", metavar="ADDRESS", help="coming from there (default: this machine)"
    )
    one.set_defaults(command=keys.test)
    one = members.add_parser("accept", parents=[common], help="accept that a GitHub account is another one now")
    one.add_argument("source", help="as in the configuration, github:<login>")
    one.set_defaults(command=keys.accept)

    one = members.add_parser("rotate-host", parents=[common], help="replace the server's own keys, step by step")
    step = one.add_mutually_exclusive_group()
    step.add_argument("--finish", action="store_true", help="put the next key in the place of the one in use")
    step.add_argument("--abort", action="store_true", help="remove the next key")
    one.add_argument("--now", action="store_true", help="finish although clients had little time to learn the next key")
    one.add_argument("--type", action="append", choices=host_keys.KINDS, help="of this type only (may be repeated)")
    one.set_defaults(command=host_keys.rotate)
    one = members.add_parser("import-host", parents=[common], help="take over sshd's keys")
    one.add_argument(
        "directory", nargs="?", default="/etc/ssh", metavar="DIR", help="where they are (default: /etc/ssh)"
    )
    one.set_defaults(command=host_keys.import_)
    return top

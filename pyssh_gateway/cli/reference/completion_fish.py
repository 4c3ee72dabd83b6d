"""The completion of fish: a line for each proposal, with the condition under which it is made."""

from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.help_text import described
from pyssh_gateway.cli.reference.model import Argument, Option, Values
from pyssh_gateway.cli.reference.parsing import first_words, members_of
from pyssh_gateway.cli.reference.program import HELP, PROGRAM, VERSION

_BEGINNING = """\
# fish completion for @PROGRAM@, written by: @PROGRAM@ completion fish

# The command in the words so far; nothing while it is being typed, or behind `--`.
function __pyssh_gateway_command
    set -l words (commandline -opc)
    set -e words[1]
    contains -- -- $words; and return
    if test (count $words) -ge 2; and contains -- "$words[1] $words[2]" @MEMBERS@
        echo "$words[1] $words[2]"
    else if test (count $words) -ge 1
        echo $words[1]
    end
end

function __pyssh_gateway_is
    contains -- "$argv" (__pyssh_gateway_command)
end

# Whether the command is this one, without another word behind it so far.
function __pyssh_gateway_ends_with
    __pyssh_gateway_is $argv; and test (count (commandline -opc)) -eq (math 1 + (count (string split " " -- "$argv")))
end

# What stands behind `--` is a command line of its own.
function __pyssh_gateway_rest
    set -l words (commandline -opc)
    set -l place (contains -i -- -- $words); or return
    set -e words[1..$place]
    complete -C (string join " " -- (string escape -- $words) (commandline -ct))
end

complete -c @PROGRAM@ -f
complete -c @PROGRAM@ -n "contains -- -- (commandline -opc)" -a "(__pyssh_gateway_rest)"
"""

_PROPOSED = {
    Values.NOTHING: "",
    Values.FILES: " -F",
    Values.DIRECTORIES: ' -a "(__fish_complete_directories (commandline -ct))"',
    Values.ACCOUNTS: ' -a "(__fish_complete_users)"',
}


def script() -> str:
    """The script for fish."""
    members = " ".join(quoted(command.name) for command in COMMANDS if len(command.words) > 1)
    begin = _BEGINNING.replace("@PROGRAM@", PROGRAM).replace("@MEMBERS@", members)
    first = "test (count (commandline -opc)) -eq 1"
    lines = [_line(first, f"-s {option.short[1]} -l {option.name[2:]}", option.summary) for option in (HELP, VERSION)]
    lines += [_line(first, f"-a {word}", _about(word)) for word in first_words()]
    for word in first_words():
        lines += [
            _line(f"__pyssh_gateway_ends_with {word}", f"-a {member.words[1]}", member.summary)
            for member in members_of(word)
        ]
    for command in COMMANDS:
        condition = f"__pyssh_gateway_is {command.name}"
        for option in (*command.options, HELP):
            short = f"-s {option.short[1]} " if option.short else ""
            # Exclusive, unless the value is a file: for an option that requires a value, fish proposes files by itself.
            required = "" if not option.value else " -r" if option.values is Values.FILES else " -x"
            value = f"{required}{_proposed(option)}" if option.value else ""
            lines.append(_line(condition, f"{short}-l {option.name[2:]}{value}", described(option)))
        for argument in command.arguments:
            if argument.values is Values.COMMANDS:
                lines += _commands(command.name)
            elif argument.choices or argument.values is not Values.NOTHING:
                lines.append(_line(condition, _proposed(argument).strip(), described(argument)))
    return begin + "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """`text` for fish, in single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _line(condition: str, what: str, meaning: str) -> str:
    return f"complete -c {PROGRAM} -n {quoted(condition)} {what} -d {quoted(meaning)}"


def _about(word: str) -> str:
    return next((command.summary for command in COMMANDS if command.name == word), f"{word} ...")


def _proposed(entry: Option | Argument) -> str:
    return f' -a "{" ".join(entry.choices)}"' if entry.choices else _PROPOSED[entry.values]


def _commands(name: str) -> list[str]:
    """The names of our own commands, which `help` takes."""
    lines = [_line(f"__pyssh_gateway_ends_with {name}", f"-a {word}", _about(word)) for word in first_words()]
    for word in first_words():
        condition = f"__pyssh_gateway_is {name}; and test (commandline -opc)[-1] = {word}"
        lines += [_line(condition, f"-a {member.words[1]}", member.summary) for member in members_of(word)]
    return lines

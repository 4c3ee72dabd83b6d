"""The completion of bash, 4 or newer: a function that finds the command in the words so far, and proposes the next."""

from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.model import Argument, Command, Option, Values
from pyssh_gateway.cli.reference.parsing import first_words, members_of
from pyssh_gateway.cli.reference.program import HELP, PROGRAM, VERSION

_ACTIONS = {
    Values.NOTHING: "return",
    Values.FILES: '_pyssh_gateway_files -f "$cur"',
    Values.DIRECTORIES: '_pyssh_gateway_files -d "$cur"',
    Values.ACCOUNTS: '_pyssh_gateway_words "$(compgen -u)"',
}

_SCRIPT = """\
# bash completion for @PROGRAM@, written by: @PROGRAM@ completion bash

_pyssh_gateway_words() {
    COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

_pyssh_gateway_files() {
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}

_pyssh_gateway() {
    local IFS=$' \\t\\n' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    local word place=0 first=2 i
    COMPREPLY=()
    # `--config=FILE` is three words to bash.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if ((COMP_CWORD == 1)); then
        _pyssh_gateway_words "@FIRST@"
        return
    fi
    case "$command ${COMP_WORDS[2]}" in
        @MEMBERS@) ((COMP_CWORD > 2)) && command="$command ${COMP_WORDS[2]}" first=3 ;;
    esac
    for ((i = first; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == -- ]]; then
            case $command in
                @RUNNERS@)
                    if declare -F _command_offset >/dev/null; then
                        _command_offset $((i + 1))
                    elif ((i + 1 == COMP_CWORD)); then
                        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
                    else
                        _pyssh_gateway_files -f "$cur"
                    fi
                    ;;
            esac
            return
        fi
        case "$command $word" in
            @VALUED@)
                # Its value is no argument.
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
                ((i++))
                ;;
            *" "-*) ;;
            *) ((place++)) ;;
        esac
    done
    case "$command $prev" in
@VALUES@
    esac
    if [[ $cur == -* ]]; then
        case $command in
@OPTIONS@
        esac
        return
    fi
    case "$command $place" in
@PLACES@
    esac
}

complete -F _pyssh_gateway @PROGRAM@
"""


def script() -> str:
    """The script for bash."""
    members = [command.name for command in COMMANDS if len(command.words) > 1]
    parts = {
        "PROGRAM": PROGRAM,
        "FIRST": " ".join([*first_words(), HELP.name, VERSION.name]),
        "MEMBERS": _patterns(members),
        "RUNNERS": _patterns([command.name for command in COMMANDS if command.takes_command]),
        "VALUED": _patterns([f"{command.name} {option.name}" for command, option in _valued()]),
        "VALUES": "\n".join(_values()),
        "OPTIONS": "\n".join(_options(command) for command in COMMANDS),
        "PLACES": "\n".join(_places()),
    }
    text = _SCRIPT
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _patterns(names: list[str]) -> str:
    return " | ".join(f'"{name}"' for name in names)


def _action(entry: Option | Argument) -> str:
    if entry.choices:
        return f'_pyssh_gateway_words "{" ".join(entry.choices)}"'
    if entry.values is Values.COMMANDS:
        return f'_pyssh_gateway_words "{" ".join(first_words())}"'
    return _ACTIONS[entry.values]


def _valued() -> list[tuple[Command, Option]]:
    return [(command, option) for command in COMMANDS for option in command.options if option.value]


def _values() -> list[str]:
    """A case for each option with a value, and for each word that is the name of a family of commands."""
    lines = [f'        "{command.name} {option.name}") {_action(option)}; return ;;' for command, option in _valued()]
    for command in COMMANDS:
        if any(argument.values is Values.COMMANDS for argument in command.arguments):
            lines += [
                f'        "{command.name} {word}") {_members(word)}; return ;;'
                for word in first_words()
                if members_of(word)
            ]
    return lines


def _members(word: str) -> str:
    return f'_pyssh_gateway_words "{" ".join(member.words[1] for member in members_of(word))}"'


def _options(command: Command) -> str:
    names = " ".join(option.name for option in (*command.options, HELP))
    return f'            "{command.name}") _pyssh_gateway_words "{names}" ;;'


def _places() -> list[str]:
    """A case for each position of an argument that has proposals, and for the members of a family."""
    lines = [f'        "{word} 0") {_members(word)} ;;' for word in first_words() if members_of(word)]
    for command in COMMANDS:
        lines += [
            f'        "{command.name} {place}") {_action(argument)} ;;'
            for place, argument in enumerate(command.arguments)
            if argument.choices or argument.values is not Values.NOTHING
        ]
    return lines

"""The completion of zsh, by its `_arguments`: a function for the first word, and one for each command."""

from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.help_text import described
from pyssh_gateway.cli.reference.model import Argument, Command, Option, Values
from pyssh_gateway.cli.reference.parsing import first_words, members_of
from pyssh_gateway.cli.reference.program import HELP, PROGRAM, VERSION

_BEGINNING = """\
#compdef @PROGRAM@
# zsh completion for @PROGRAM@, written by: @PROGRAM@ completion zsh

"""

_END = """\

# As a file of $fpath this is the function itself; read by eval, it has to be made known.
if [[ $funcstack[1] == _pyssh-gateway ]]; then
    _pyssh-gateway "$@"
else
    compdef _pyssh-gateway @PROGRAM@
fi
"""

_ACTIONS = {
    Values.NOTHING: "",
    Values.FILES: "_files",
    Values.DIRECTORIES: "_files -/",
    Values.ACCOUNTS: "_users",
    Values.COMMANDS: "_pyssh-gateway_names",
}


def script() -> str:
    """The script for zsh."""
    parts = [_BEGINNING.replace("@PROGRAM@", PROGRAM), _names(), _top()]
    parts += [_function(command) for command in COMMANDS]
    families = [word for word in first_words() if members_of(word)]
    parts += [_family(word) for word in families if not any(command.name == word for command in COMMANDS)]
    return "\n".join(parts) + _END.replace("@PROGRAM@", PROGRAM)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str) -> str:
    """`text` for a specification of `_arguments` or `_describe`, in which brackets and colons have to be escaped."""
    for character in "\\[]:":
        text = text.replace(character, "\\" + character)
    return text


def _function_name(words: str) -> str:
    return "_pyssh-gateway_" + words.replace(" ", "_")


def _about(word: str) -> str:
    return next((command.summary for command in COMMANDS if command.name == word), f"{word} ...")


def _described(name: str, values: dict[str, str]) -> list[str]:
    """A function that proposes the names `values`, each with its meaning."""
    lines = ["    local -a proposed=("]
    lines += [f"        {_quoted(f'{_escaped(word)}:{_escaped(meaning)}')}" for word, meaning in values.items()]
    return [*lines, "    )", f"    _describe {name} proposed"]


def _names() -> str:
    """The names of our own commands, which `help` takes."""
    lines = ["_pyssh-gateway_names() {", "    case $words[CURRENT-1] in"]
    for word in first_words():
        if members_of(word):
            listed = " ".join(member.words[1] for member in members_of(word))
            lines.append(f"        {word}) compadd {listed}; return ;;")
    lines += ["    esac", *_described("command", {word: _about(word) for word in first_words()}), "}"]
    return "\n".join(lines) + "\n"


def _top() -> str:
    """The first word, then the function of the command."""
    lines = [
        "_pyssh-gateway() {",
        "    local curcontext=$curcontext state line",
        "    local -A opt_args",
        "    _arguments -C \\",
        *(f"        {spec} \\" for option in (HELP, VERSION) for spec in [_option(option, alone=True)]),
        "        '1:command:_pyssh-gateway_names' \\",
        "        '*:: :->rest' && return",
        "    [[ $state == rest ]] && case $words[1] in",
        *(f"        {word}) {_function_name(word)} ;;" for word in first_words()),
        "    esac",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _function(command: Command) -> str:
    """The function for the options and arguments of a command; the first of $words is the last word of its name."""
    lines = [f"{_function_name(command.name)}() {{"]
    if command.takes_command:
        lines += [
            "    local end=${words[(i)--]}",
            "    if ((end < CURRENT)); then",
            "        shift end words",
            "        ((CURRENT -= end))",
            "        _normal",
            "        return",
            "    fi",
        ]
    members = members_of(command.name)
    if members:
        lines += ["    local curcontext=$curcontext state line", "    local -A opt_args"]
    specs = [_option(option) for option in (*command.options, HELP)]
    specs += [_argument(place, argument) for place, argument in enumerate(command.arguments, 1)]
    if members:
        specs += [f"'1:command:{_function_name(command.name)}_members'", "'*:: :->rest'"]
    lines.append(" \\\n        ".join([f"    _arguments{' -C' if members else ''}", *specs]))
    if members:
        lines[-1] += " && return"
        lines += _choose(members)
    lines.append("}")
    text = "\n".join(lines) + "\n"
    return text + "\n" + _member_list(command.name) if members else text


def _family(word: str) -> str:
    """The function for a family whose name is no command."""
    lines = [
        f"{_function_name(word)}() {{",
        "    local curcontext=$curcontext state line",
        "    local -A opt_args",
        f"    _arguments -C '1:command:{_function_name(word)}_members' '*:: :->rest' && return",
        *_choose(members_of(word)),
        "}",
    ]
    return "\n".join(lines) + "\n\n" + _member_list(word)


def _choose(members: tuple[Command, ...]) -> list[str]:
    return [
        "    [[ $state == rest ]] && case $words[1] in",
        *(f"        {member.words[1]}) {_function_name(member.name)} ;;" for member in members),
        "    esac",
    ]


def _member_list(word: str) -> str:
    proposed = _described("command", {member.words[1]: member.summary for member in members_of(word)})
    return "\n".join([f"{_function_name(word)}_members() {{", *proposed, "}"]) + "\n"


def _option(option: Option, *, alone: bool = False) -> str:
    """A specification of `_arguments`. `alone`: no other option can be given with it."""
    meaning = f"[{_escaped(described(option))}]"
    value = f":{option.value}:{_action(option)}" if option.value else ""
    if option.short:
        others = "(- *)" if alone else f"({option.short} {option.name})"
        return f"'{others}'{{{option.short},{option.name}}}{_quoted(meaning + value)}"
    repeated = "*" if option.repeated else ""
    equals = "=" if option.value else ""
    return _quoted(f"{repeated}{option.name}{equals}{meaning}{value}")


def _argument(place: int, argument: Argument) -> str:
    where = "*" if argument.repeated else str(place)
    optional = "::" if not argument.needed and not argument.repeated else ":"
    return _quoted(f"{where}{optional}{argument.name}:{_action(argument)}")


def _action(entry: Option | Argument) -> str:
    return f"({' '.join(entry.choices)})" if entry.choices else _ACTIONS[entry.values]

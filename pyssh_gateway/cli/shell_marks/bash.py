"""For bash, from 4.4 on, which has PS0."""

SCRIPT = r"""# Marks prompts and commands (OSC 133), so that recordings know them. In ~/.bashrc:
#     eval "$(pyssh-gateway shell-marks bash)"
if [[ $- == *i* && $TERM != dumb && -z ${__pyssh_marks-} && ${BASH_VERSINFO[0]}${BASH_VERSINFO[1]} -ge 44 ]]; then
    __pyssh_marks=1
    # The status has to be taken before anything else runs, and is handed on to what else there is.
    __pyssh_mark_prompt() {
        local status=$?
        [[ -n ${__pyssh_began-} ]] && printf '\e]133;D;%s\a' "$status"
        __pyssh_began=
        __pyssh_last=$(HISTTIMEFORMAT='' builtin history 1)
        [[ $PS1 == *'133;A'* ]] || PS1='\[\e]133;A\a\]'$PS1'\[\e]133;B\a\]'
        return "$status"
    }
    # Runs in a subshell, when a command has been read and before it runs. A command that is not in the history, because
    # it began with a space, is known from the screen.
    __pyssh_mark_command() {
        local LC_ALL=C line char rest encoded=
        line=$(HISTTIMEFORMAT='' builtin history 1)
        if [[ $line == "$__pyssh_last" || ! $line =~ ^[[:space:]]*[0-9]+[*]?[[:space:]]+(.*) ]]; then
            printf '\e]133;C\a'
            return
        fi
        rest=${BASH_REMATCH[1]:0:2048}
        while [[ -n $rest ]]; do
            char=${rest:0:1} rest=${rest:1}
            [[ $char == [a-zA-Z0-9._/=,:@+-] ]] || printf -v char '%%%02X' "'$char"
            [[ ${#char} -le 3 ]] || char=%${char: -2}
            encoded+=$char
        done
        printf '\e]133;C;cmdline_url=%s\a' "$encoded"
    }
    # The second part is for what it sets, in this shell, and expands to nothing.
    PS0='$(__pyssh_mark_command)${__pyssh_marks:$((__pyssh_began=1,0)):0}'${PS0-}
    __pyssh_began=
    if [[ $(declare -p PROMPT_COMMAND 2>/dev/null) == 'declare -a'* ]]; then
        PROMPT_COMMAND=(__pyssh_mark_prompt "${PROMPT_COMMAND[@]}")
    else
        PROMPT_COMMAND=__pyssh_mark_prompt${PROMPT_COMMAND:+$'\n'$PROMPT_COMMAND}
    fi
fi
"""

"""For zsh."""

SCRIPT = r"""# Marks prompts and commands (OSC 133), so that recordings know them. In ~/.zshrc:
#     eval "$(pyssh-gateway shell-marks zsh)"
if [[ -o interactive && $TERM != dumb && -z ${__pyssh_marks-} ]]; then
    __pyssh_marks=1
    __pyssh_mark_prompt() {
        local code=$?
        [[ -n ${__pyssh_began-} ]] && printf '\e]133;D;%s\a' "$code"
        __pyssh_began=
        [[ $PS1 == *'133;A'* ]] || PS1=$'%{\e]133;A\a%}'$PS1$'%{\e]133;B\a%}'
        return $code
    }
    __pyssh_mark_command() {
        emulate -L zsh
        unsetopt multibyte
        local char encoded=
        for char in "${(@s::)1[1,2048]}"; do
            [[ $char == [a-zA-Z0-9._/=,:@+-] ]] || printf -v char '%%%02X' $(( #char ))
            encoded+=$char
        done
        __pyssh_began=1
        printf '\e]133;C;cmdline_url=%s\a' "$encoded"
    }
    precmd_functions=(__pyssh_mark_prompt $precmd_functions)
    preexec_functions+=(__pyssh_mark_command)
fi
"""

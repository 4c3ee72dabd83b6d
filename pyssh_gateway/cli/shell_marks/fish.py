"""For fish before 4.0; from then on it marks them by itself, in the same way."""

SCRIPT = r"""# Marks prompts and commands (OSC 133), so that recordings know them. In ~/.config/fish/config.fish:
#     pyssh-gateway shell-marks fish | source
if status is-interactive; and test "$TERM" != dumb; and string match -qr '^[0-3]\.' -- $version
    function __pyssh_mark_prompt --on-event fish_prompt
        printf '\e]133;A\a'
    end
    function __pyssh_mark_command --on-event fish_preexec
        set -l line (string sub -l 2048 -- "$argv" | string collect)
        printf '\e]133;C;cmdline_url=%s\a' (string escape --style=url -- $line)
    end
    function __pyssh_mark_end --on-event fish_postexec
        printf '\e]133;D;%s\a' $status
    end
end
"""

"""The table of commands, one entry each: the parser, help, completion and man pages are made from it."""

from pyssh_gateway.cli.reference.audit_commands import AUDIT
from pyssh_gateway.cli.reference.model import Argument, Command, Example, Exit, Group, Option, Values
from pyssh_gateway.cli.reference.shared_options import CONFIG, JSON

_WHICH_CONFIG = """
Without --config, and without a PYSSH_GATEWAY_ variable in the environment, it is the configuration of the server that
runs, with that one's environment, if root or the account that started the server asks.
"""

_HOST_KEY_TYPES = ("ed25519", "ecdsa", "rsa")

COMMANDS = (
    Command(
        "serve",
        Group.SERVING,
        "let people log in, until nobody needs the machine",
        options=(
            CONFIG,
            Option("--port", "listen on this port (default: 2222)", value="N"),
            Option("--debug", "a second server beside the one in use, to watch a login, as sshd -d; name another port"),
            Option("--trial", "without a [[login]] in the configuration: let in the account that starts the server"),
            Option(
                "--user",
                "with --trial, as root: the account to log in to, made if it is missing",
                value="NAME",
                values=Values.ACCOUNTS,
            ),
            Option(
                "--github",
                "with --trial: let in the keys of this GitHub account instead of those in ~/.ssh",
                value="LOGIN",
            ),
        ),
        details="""
Binds the port first, then reads the configuration; everything that is wrong with it is said at once, and
nothing is served then. It ends when there has been no reason to stay for idle.timeout, and at SIGTERM or
SIGINT; SIGHUP has it read the configuration and the keys again.
""",
        examples=(Example("pyssh-gateway serve --trial", "try it: let yourself in, on port 2222"),),
        exits=(
            Exit(0, "it stopped because nobody needed it, or because it was told to"),
            Exit(1, "it had to give up"),
            Exit(2, "it can't start: the command line, the configuration or the machine"),
        ),
    ),
    Command(
        "check",
        Group.CONFIGURATION,
        "check the configuration, and show who could log in with it",
        run="pyssh_gateway.cli.check:check",
        options=(
            Option("--elsewhere", "it is for another machine: leave out what depends on that, and name it"),
            CONFIG,
            JSON,
        ),
        details=f"""
Looks at accounts, files, directories, ports and host keys, and asks every source of keys once. Nothing is kept.

{_WHICH_CONFIG}
""",
        examples=(
            Example("sudo pyssh-gateway check", "on the machine, before a start or a reload"),
            Example("pyssh-gateway check --elsewhere --config box.toml", "anywhere, before a deploy"),
        ),
        exits=(Exit(0, "nothing is wrong"), Exit(1, "something is wrong")),
    ),
    Command(
        "doctor",
        Group.CONFIGURATION,
        "find what would stop a login, and say what to do about it",
        run="pyssh_gateway.cli.doctor.doctor:doctor",
        options=(CONFIG, JSON),
        details=f"""
Looks at the configuration, ports, accounts, keys and their sources, files, the clock, the server that runs, systemd,
and what the machine has left. Nothing is changed. A problem keeps the server from starting or somebody from logging in;
a warning does not, or not yet. Each says what to do. As root it sees more.

{_WHICH_CONFIG}
""",
        exits=(Exit(0, "there is no problem"), Exit(1, "there is one")),
    ),
    Command(
        "config show",
        Group.CONFIGURATION,
        "show every value that is in force, and where it is from",
        run="pyssh_gateway.cli.configuration.show:show",
        options=(Option("--changed", "only those that are no defaults"), CONFIG, JSON),
        arguments=(Argument("KEY", "this one, or those in this table, such as idle or listen.port", needed=False),),
        details=f"""
A value is from the file, an environment variable or the command line, or it is the default. Tokens, and a proxy's
address, which may have a password in it, are not shown.

{_WHICH_CONFIG}
""",
    ),
    Command(
        "config init",
        Group.CONFIGURATION,
        "write a configuration to begin with",
        run="pyssh_gateway.cli.configuration.starter:init",
        options=(
            Option(
                "--user",
                "the account to log in to (default: the one that runs this; for root, the only one of a person)",
                value="NAME",
                values=Values.ACCOUNTS,
            ),
            Option("--github", "let in the keys of this GitHub account", value="LOGIN"),
            Option(
                "--keys",
                "let in the keys in this file (default: the account's ~/.ssh/authorized_keys)",
                value="FILE",
                values=Values.FILES,
            ),
        ),
        arguments=(
            Argument("FILE", "where to; without it, or with -, to standard output", needed=False, values=Values.FILES),
        ),
        details="Its comments say what else can be set. A file that is there already is left as it is.",
        examples=(
            Example(
                "sudo pyssh-gateway config init --github example /etc/pyssh-gateway/config.toml",
                "for the server of this machine",
            ),
        ),
    ),
    Command(
        "import-sshd-config",
        Group.CONFIGURATION,
        "translate an sshd's configuration, and say what can't be",
        run="pyssh_gateway.cli.import_sshd_config:import_",
        options=(
            Option(
                "--output",
                "write to this file, which must not be there yet",
                value="FILE",
                values=Values.FILES,
                short="-o",
            ),
        ),
        arguments=(
            Argument(
                "FILE",
                "sshd's (default: /etc/ssh/sshd_config)",
                needed=False,
                values=Values.FILES,
                default="/etc/ssh/sshd_config",
            ),
        ),
        details="""
Reads the file as sshd does, with what it includes, for the accounts of this machine: each that sshd would let in
with a key gets a [[login]]. The result is TOML on standard output; what has no counterpart is listed on standard
error. docs/from-sshd.md has every keyword.
""",
        examples=(
            Example(
                "pyssh-gateway import-sshd-config -o /etc/pyssh-gateway/config.toml",
                "take over the configuration of this machine's sshd",
            ),
        ),
        exits=(
            Exit(0, "everything is translated"),
            Exit(1, "something is left out, or the result could not be written"),
            Exit(2, "the command line can't be used, or sshd would not take the file"),
        ),
    ),
    Command(
        "status",
        Group.WATCHING,
        "show the server, who is on, and when it stops",
        run="pyssh_gateway.cli.status:status",
        options=(CONFIG, JSON),
    ),
    Command(
        "sessions",
        Group.WATCHING,
        "show who runs what",
        run="pyssh_gateway.cli.why:sessions",
        options=(CONFIG, JSON),
    ),
    Command(
        "why",
        Group.WATCHING,
        "show what keeps the machine up, and when and why it stops",
        run="pyssh_gateway.cli.why:why",
        options=(CONFIG, JSON),
    ),
    Command(
        "hold",
        Group.HOLDING,
        "keep the machine up for a time, or while a command runs",
        run="pyssh_gateway.cli.hold:hold",
        options=(Option("--pid", "while this process of yours runs", value="PID"), CONFIG, JSON),
        arguments=(
            Argument("LENGTH", "such as 30m, 2h, 1h30m or 2 hours; the unit is needed", needed=False),
            Argument("REASON", "what for; others see it", needed=False, repeated=True),
        ),
        forms=(
            "LENGTH [REASON...] [OPTION...]",
            "[LENGTH] [REASON...] [OPTION...] -- COMMAND [ARGUMENT...]",
            "[LENGTH] [REASON...] [OPTION...] --pid PID",
        ),
        details="""
A length is one word (30m, 2h, 1h30m, 90min), or numbers and units in turn (2 hours, 1 hour 30 minutes). The
units are s, m, h and d, and their names. A number without a unit is an error.

With a command, the hold lasts while it runs, and for LENGTH at most; without LENGTH, for as long as
idle.hold_max allows. pyssh-gateway becomes the command: signals and exit status are the command's own.
With --pid it is the same for a process that runs already.

A command with PYSSH_HOLD=1 in its environment holds without pyssh-gateway, from when it is left behind until
it ends; PYSSH_HOLD=2h for two hours from its start at most.
""",
        examples=(
            Example("pyssh-gateway hold 2h training run", "for two hours, and say what for"),
            Example("pyssh-gateway hold -- make -j8", "while make runs"),
            Example("pyssh-gateway hold 30m -- ./migrate", "while it runs, and for half an hour at most"),
            Example("pyssh-gateway hold --pid 1234", "until process 1234 has ended"),
        ),
        exits=(
            Exit(125, "with a command: the machine could not be held, and the command was not run"),
            Exit(126, "the command can't be run"),
            Exit(127, "the command was not found"),
        ),
        takes_command=True,
        before_command=125,
    ),
    Command(
        "release",
        Group.HOLDING,
        "end a hold",
        run="pyssh_gateway.cli.hold:release",
        options=(Option("--all", "all of yours; with root's rights, everybody's", into="every"), CONFIG, JSON),
        arguments=(
            Argument("HOLD", "as hold and why show it; not needed if there is only one of yours", needed=False),
        ),
    ),
    Command(
        "idle what-if",
        Group.HOLDING,
        "show what other settings would have cost and saved",
        run="pyssh_gateway.cli.what_if:what_if",
        options=(
            Option("--since", "replay so much of the log, back from now (default: 30d)", value="TIME", default="30d"),
            Option("--price", "what an hour awake costs, in any currency", value="PRICE"),
            Option("--log", "this file (default: all in audit_dir)", value="FILE", values=Values.FILES),
            CONFIG,
            JSON,
        ),
        arguments=(
            Argument("SETTING", "of [idle], such as client_idle=15m; or stop.action", needed=False, repeated=True),
        ),
        details="""
Replays the log under the settings in force, and under the changed ones. People and programs come, use the machine and
go as they did; the log can't know what else they would have done. No server is asked.
""",
        examples=(Example("pyssh-gateway idle what-if client_idle=15m timeout=2m", "what shorter times would save"),),
        exits=(Exit(1, "the log can't be read, or has nothing of that time"),),
    ),
    *AUDIT,
    Command(
        "keys",
        Group.KEYS,
        "show who can log in with what, and how fresh that is",
        run="pyssh_gateway.cli.keys:show",
        options=(Option("--randomart", "with each key's picture"), CONFIG, JSON),
        details="Without a server, this is by the key files and the last good copies on the disk.",
    ),
    Command(
        "keys test",
        Group.KEYS,
        "say whether a key would be let in, and why not",
        run="pyssh_gateway.cli.keys:test",
        options=(
            Option("--user", "for this account only", value="NAME", values=Values.ACCOUNTS, default=""),
            Option("--from", "coming from there (default: this machine)", value="ADDRESS", default="", into="peer"),
            CONFIG,
            JSON,
        ),
        arguments=(Argument("FILE", "a public key or certificate; - for standard input", values=Values.FILES),),
        exits=(Exit(0, "an account lets the key in"), Exit(1, "no account does")),
    ),
    Command(
        "keys refresh",
        Group.KEYS,
        "ask every source of keys now",
        run="pyssh_gateway.cli.keys:refresh",
        options=(CONFIG, JSON),
        exits=(Exit(0, "every source has answered"), Exit(1, "one has not")),
    ),
    Command(
        "keys accept",
        Group.KEYS,
        "accept that a GitHub login belongs to another account now",
        run="pyssh_gateway.cli.keys:accept",
        options=(CONFIG,),
        arguments=(Argument("SOURCE", "as in the configuration: github:<login>"),),
    ),
    Command(
        "keys rotate-host",
        Group.KEYS,
        "replace the server's own keys, step by step",
        run="pyssh_gateway.cli.host_keys:rotate",
        options=(
            Option("--finish", "put the next key in the place of the one in use"),
            Option("--abort", "remove the next key"),
            Option("--now", "with --finish: although clients had little time to learn the next key"),
            Option("--type", "of this type only", value="TYPE", choices=_HOST_KEY_TYPES, repeated=True),
            CONFIG,
        ),
        details="""
Without an option, makes the next key. The server announces it to clients from its next start on; when they have
learned it, --finish puts it in the place of the one in use.
""",
    ),
    Command(
        "keys import-host",
        Group.KEYS,
        "take over the host keys of an sshd",
        run="pyssh_gateway.cli.host_keys:import_",
        options=(CONFIG,),
        arguments=(
            Argument(
                "DIRECTORY",
                "where they are (default: /etc/ssh)",
                needed=False,
                values=Values.DIRECTORIES,
                default="/etc/ssh",
            ),
        ),
    ),
    Command(
        "help",
        Group.MORE,
        "say what a command does and takes",
        run="pyssh_gateway.cli.reference.printed:help_",
        arguments=(Argument("COMMAND", "its words", needed=False, repeated=True, values=Values.COMMANDS),),
    ),
    Command(
        "completion",
        Group.MORE,
        "print what makes a shell complete these commands",
        run="pyssh_gateway.cli.reference.printed:completion",
        arguments=(Argument("SHELL", "bash, zsh or fish", choices=("bash", "zsh", "fish")),),
        examples=(
            Example('eval "$(pyssh-gateway completion bash)"', "in ~/.bashrc"),
            Example("pyssh-gateway completion zsh >~/.zfunc/_pyssh-gateway", "a directory of zsh's $fpath"),
            Example("pyssh-gateway completion fish >~/.config/fish/completions/pyssh-gateway.fish", "for fish"),
        ),
    ),
    Command(
        "shell-marks",
        Group.MORE,
        "print what makes a shell mark its commands in recordings",
        run="pyssh_gateway.cli.shell_marks.command:shell_marks",
        arguments=(Argument("SHELL", "bash, zsh or fish", choices=("bash", "zsh", "fish")),),
        details="""
With it, recordings know which commands were typed at a shell, when each ended and how: audit replay jumps to them,
and audit search finds them. It is the user's shell that says so, so it is a help, and no proof. VS Code's terminal,
and fish from 4.0 on, do it by themselves.
""",
        examples=(
            Example('eval "$(pyssh-gateway shell-marks bash)"', "in ~/.bashrc; the same for zsh in ~/.zshrc"),
            Example("pyssh-gateway shell-marks fish | source", "in ~/.config/fish/config.fish"),
        ),
    ),
    Command(
        "manpage",
        Group.MORE,
        "print a command's man page, or write all of them",
        run="pyssh_gateway.cli.reference.printed:manpage",
        options=(Option("--directory", "write all pages there", value="DIRECTORY", values=Values.DIRECTORIES),),
        arguments=(
            Argument(
                "COMMAND", "its words; none for the program's own", needed=False, repeated=True, values=Values.COMMANDS
            ),
        ),
        examples=(
            Example("pyssh-gateway manpage hold | man -l -", "read one"),
            Example("sudo pyssh-gateway manpage --directory /usr/local/share/man/man1", "install them for everybody"),
        ),
    ),
    Command(
        "sftp-server",
        Group.MORE,
        "serve SFTP on standard input and output",
    ),
)

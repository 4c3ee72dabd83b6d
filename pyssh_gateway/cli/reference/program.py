"""What is said of the program itself: its options, exit codes, environment and files."""

from pyssh_gateway.cli.reference.model import Exit, Named, Option

PROGRAM = "pyssh-gateway"

ABOUT = "an SSH server for a development machine that sleeps when nobody uses it"

HELP = Option("--help", "say this", short="-h")
"""The option that every command has."""

VERSION = Option("--version", "say which version this is", short="-V")
"""The option that only the program itself has."""

EXITS = (
    Exit(0, "done, or the answer is yes"),
    Exit(1, "the answer is no, or what was asked could not be done"),
    Exit(2, "the command line or the configuration can't be used"),
    Exit(3, "no server runs that could be asked"),
)
"""The meaning of the exit codes, for all commands."""

ENVIRONMENT = (
    Named("PYSSH_GATEWAY_CONFIG", "the configuration, where --config does not name one"),
    Named("PYSSH_GATEWAY_*", "a value of the configuration, such as PYSSH_GATEWAY_IDLE__TIMEOUT=5m"),
    Named("PYSSH_CONTROL", "the control socket of the server to ask; the server sets it in its sessions"),
)
FILES = (
    Named("/etc/pyssh-gateway/config.toml", "the configuration, where nothing else names one"),
    Named("/run/pyssh-gateway/control.sock", "the control socket of a server that root has started"),
    Named("control.sock in keys_dir", "that of a server that another account has started"),
)

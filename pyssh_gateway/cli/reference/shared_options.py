"""Options that many commands have."""

from pyssh_gateway.cli.reference.model import Option, Values

CONFIG = Option(
    "--config",
    "the configuration (default: $PYSSH_GATEWAY_CONFIG, then /etc/pyssh-gateway/config.toml)",
    value="FILE",
    values=Values.FILES,
)
JSON = Option("--json", "for programs: one line of JSON, errors too")
DIRECTORY = Option(
    "--dir", "the log is in this directory (default: audit_dir)", value="DIRECTORY", values=Values.DIRECTORIES
)

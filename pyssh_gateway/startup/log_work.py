"""What the spawner does with the log's files: it gets these functions, because it imports nothing of `audit`."""

import time
from pathlib import Path

from pyssh_gateway.audit.log_file import LogPlace
from pyssh_gateway.config.types import Config
from pyssh_gateway.spawner.log_files import Compress, LogWork


def log_work(audit_dir: Path) -> LogWork:
    """The functions for the log in `audit_dir`."""
    audit_dir = audit_dir.absolute()  # children have other working directories
    place = LogPlace(audit_dir)

    def tidy(config: Config, compressed: Compress) -> None:
        from pyssh_gateway.audit import sealing  # late: in a child

        sealing.tidy(audit_dir, config.audit, time.time(), compressed)

    def compress(source: int, target: int) -> None:
        from pyssh_gateway.audit import sealing  # the child of that child has it

        sealing.compress(source, target)

    return LogWork(place.open_all, place.seal, tidy, compress)

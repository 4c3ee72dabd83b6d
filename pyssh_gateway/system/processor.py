"""Features of the processor."""

from contextlib import suppress
from pathlib import Path


def processor_has_aes() -> bool:
    """Whether the processor has AES instructions; false when it can't be known."""
    with suppress(OSError), Path("/proc/cpuinfo").open("rb") as file:
        return b" aes" in file.read(8192)  # the first processor's flags (x86) or features (Arm) are within this
    return False

"""The file with the banner that clients get before login (`listen.banner`), read together with the configuration.

The server's account may not be able to read the file, so it is read with the rights of the start, and again at each
reload. From then on the configuration has the text.
"""

import os
import stat

import msgspec

from pyssh_gateway.config.machine_values import MAX_BANNER, problem_of_banner
from pyssh_gateway.config.types import Config

_FILE = "file:"


def with_text(config: Config) -> tuple[Config, list[str]]:
    """`config` with the banner's text instead of the file's name; or `config` unchanged, and the problems."""
    banner = config.listen.banner
    if not banner.startswith(_FILE):
        return config, []
    path = banner.removeprefix(_FILE)
    try:
        text = _read(path)
    except OSError as error:
        return config, [f"listen.banner: {path} can't be read: {error.strerror or error}"]
    except UnicodeDecodeError:
        return config, [f"listen.banner: {path} is not UTF-8: convert it with iconv -t UTF-8"]
    if problem := problem_of_banner(text):
        return config, [f"listen.banner: {path} {problem}"]
    return msgspec.structs.replace(config, listen=msgspec.structs.replace(config.listen, banner=text)), []


def _read(path: str) -> str:
    """The file's text, up to one byte more than allowed. Raises OSError, also for a pipe, which would block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        return file.read(MAX_BANNER + 1).decode()

"""The file with the text that clients see before they log in."""

import os
from pathlib import Path

from pyssh_gateway.config.machine_values import MAX_BANNER
from pyssh_gateway.config.types import Config, Listen
from pyssh_gateway.startup.banner_file import with_text


def told(banner: str) -> str:
    """The banner of a configuration with this setting."""
    config, problems = with_text(Config(listen=Listen(banner=banner)))
    assert not problems
    return config.listen.banner


def test_text_is_the_text_and_a_file_is_read(tmp_path: Path) -> None:
    """Both documented forms, a text and a file, give the text that clients see."""
    file = tmp_path / "issue.net"
    file.write_text("file: no name but a text\n")
    assert told("") == ""
    assert told("Hello") == "Hello"
    assert told(f"file:{file}") == "file: no name but a text\n"


def test_what_can_t_be_shown_is_said_at_the_start(tmp_path: Path) -> None:
    """Protects the administrator from a notice that is silently missing, and a start from a pipe without a writer."""
    file, pipe = tmp_path / "issue.net", tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, content, why in (
        (tmp_path / "missing", None, "No such file"),
        (pipe, None, "not a regular file"),
        (tmp_path, None, "Is a directory"),
        (file, b"caf\xe9", "UTF-8"),
        (file, b"\x1b[2J", "control characters"),
        (file, b"x" * (MAX_BANNER + 1), "larger than 16 KiB"),
    ):
        if content is not None:
            path.write_bytes(content)
        config = Config(listen=Listen(banner=f"file:{path}"))
        same, (problem,) = with_text(config)
        assert same == config
        assert problem.startswith(f"listen.banner: {path} ")
        assert why in problem

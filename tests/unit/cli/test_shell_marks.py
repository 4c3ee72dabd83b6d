"""Tests of the marks that `shell-marks` has shells make, in the shells themselves."""

import shutil
from pathlib import Path

import pytest

from pyssh_gateway.cli.main import run
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from pyssh_gateway.core.recordings.command_marks import CommandMarks
from pyssh_gateway.core.recordings.decoder import Decoder
from tests.support.terminal import Terminal

SHELLS = {
    "bash": ["bash", "--noprofile", "--rcfile"],
    "zsh": ["zsh", "-d"],
    "fish": ["fish", "--no-config", "-C"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_marked(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command as it was typed, with its status, also over several lines and with odd characters."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert run(["shell-marks", shell], {}) == 0
    script = tmp_path / (".zshrc" if shell == "zsh" else "marks")
    script.write_text(capsys.readouterr().out + "PS1='> '\n" * (shell != "fish"))
    argv = SHELLS[shell] + {"bash": [str(script)], "zsh": [], "fish": [f"source {script}"]}[shell]
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "HISTCONTROL": "ignorespace",
    }
    loop = "for i in 1 2\necho $i; end" if shell == "fish" else "for i in 1 2; do\necho $i; done"
    with Terminal(argv, environ) as terminal:
        terminal.expect(r"\x1b\]133;A")
        for line in ("true", "sh -c 'exit 7'", "echo 'ä;%x' \"~\"", loop):
            terminal.send(f"{line}\n")
            terminal.expect(r"\x1b\]133;C")
            terminal.expect(r"\x1b\]133;A")
        terminal.send("exit\n")
        terminal.wait()
        encoder = Encoder()
        lines = (encoder.header(Header(cols=80, rows=24)) + encoder.output(1.0, terminal.screen)).splitlines()
    decoder, marks = Decoder(lines[0]), CommandMarks()
    events = [event for line in lines[1:] if (event := decoder.event(line)) is not None]
    found = [(each.text.replace("do echo", "do\necho"), each.status) for event in events for each in marks.feed(event)]
    assert found[:4] == [("true", 0), ("sh -c 'exit 7'", 7), ("echo 'ä;%x' \"~\"", 0), (loop, 0)]

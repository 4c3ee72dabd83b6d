"""cli.reference.completion_*: the proposals of the scripts, obtained from the shells themselves."""

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pyssh_gateway.cli.reference import completion_bash, completion_fish, completion_zsh
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.parsing import first_words, members_of
from pyssh_gateway.cli.reference.program import HELP, VERSION
from tests.support.waiting import PATIENCE

FIRST = {*first_words(), HELP.name, VERSION.name}

_ASK_BASH = """
source "$1"
compopt() { :; }
shift
for line; do
    read -ra COMP_WORDS <<<"${line//=/ = }"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _pyssh_gateway
    echo "${COMPREPLY[*]}"
done
"""
"""Calls the function with the words as bash splits them: `=` is a word of its own."""


def bash(directory: Path, *lines: str) -> list[set[str]]:
    """The proposals of bash for each line."""
    script = directory / "completion.bash"
    script.write_text(completion_bash.script())
    done = subprocess.run(
        ["bash", "-c", _ASK_BASH, "bash", script, *lines],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr == ""
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_bash_proposes_what_the_table_has(tmp_path: Path) -> None:
    """Protects from an outdated completion: it has every command with every option, and every member of a family."""
    first, *options = bash(tmp_path, "pyssh-gateway ", *(f"pyssh-gateway {command.name} --" for command in COMMANDS))
    assert first == FIRST
    for command, proposed in zip(COMMANDS, options, strict=True):
        assert proposed == {option.name for option in (*command.options, HELP)}, command.name
    (members,) = bash(tmp_path, "pyssh-gateway keys ")
    assert members == {member.words[1] for member in members_of("keys")}


def test_bash_proposes_values(tmp_path: Path) -> None:
    """Protects the completion of files and accounts, also after `=`, and of a command after `hold --`."""
    (tmp_path / "id.pub").touch()
    (tmp_path / "directory").mkdir()
    asked = {
        "pyssh-gateway st": {"status"},
        "pyssh-gateway status --config id": {"id.pub"},
        "pyssh-gateway status --config=id": {"id.pub"},
        "pyssh-gateway keys test --user roo": {"root"},
        "pyssh-gateway keys test --user root id": {"id.pub"},
        "pyssh-gateway keys test --user=root id": {"id.pub"},
        "pyssh-gateway keys import-host d": {"directory"},
        "pyssh-gateway keys rotate-host --type e": {"ecdsa", "ed25519"},
        "pyssh-gateway completion ": {"bash", "fish", "zsh"},
        "pyssh-gateway completion bash ": set(),
        "pyssh-gateway help keys re": {"refresh"},
        "pyssh-gateway hold 2h -- ech": {"echo"},
        "pyssh-gateway status -- ": set(),
    }
    assert dict(zip(asked, bash(tmp_path, *asked), strict=True)) == asked


def test_zsh_completes(tmp_path: Path) -> None:
    """Protects zsh's users, at a terminal like theirs: commands, members, options and values are completed."""
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    script = tmp_path / "_pyssh-gateway"
    script.write_text(completion_zsh.script())
    (tmp_path / "id.pub").touch()
    leader, follower = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(tmp_path), "PS1": "> "}
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=follower, stdout=follower, stderr=follower, env=environ, cwd=tmp_path
    )
    os.close(follower)
    try:
        # Quotes split the word in this line, or its echo would be taken for the answer.
        os.write(
            leader,
            b"unsetopt zle_bracketed_paste; autoload -U compinit; compinit -D -u; source ./_pyssh*; echo do''ne\n",
        )
        _wait_for(leader, b"done")
        for typed, completed in (
            (b"stat\t", b"status "),
            (b"keys refr\t", b"keys refresh "),
            (b"keys test --us\troo\t", b"=root "),
            (b"keys test id\t", b"keys test id.pub "),
            (b"completion z\t", b"completion zsh "),
            (b"keys rotate-host --type ec\t", b"--type ecdsa "),
            (b"hold 2h -- ech\t", b"-- echo"),
        ):
            os.write(leader, b"\x15pyssh-gateway " + typed)
            _wait_for(leader, completed)
    finally:
        shell.kill()
        shell.wait()
        os.close(leader)


def test_fish_proposes_what_the_table_has(tmp_path: Path) -> None:
    """Protects fish's users, where fish is installed: every command is proposed with its options and values."""
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = tmp_path / "completion.fish"
    script.write_text(completion_fish.script())
    (tmp_path / "id.pub").touch()
    asked = {
        "pyssh-gateway ": FIRST - {HELP.name, VERSION.name},
        "pyssh-gateway -": {HELP.name, HELP.short, VERSION.name, VERSION.short},
        "pyssh-gateway keys ": {member.words[1] for member in members_of("keys")},
        "pyssh-gateway help keys re": {"refresh"},
        "pyssh-gateway keys test id": {"id.pub"},
        "pyssh-gateway keys rotate-host --type ": {"ecdsa", "ed25519", "rsa"},
        "pyssh-gateway completion ": {"bash", "fish", "zsh"},
        "pyssh-gateway hold -- ech": {"echo"},
        "pyssh-gateway status -- --": set(),
    }
    for command in COMMANDS:
        asked[f"pyssh-gateway {command.name} --"] = {option.name for option in (*command.options, HELP)}
    ask = "source $argv[1]; for line in $argv[2..]; complete -C $line; echo ---; end"
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask, script, *asked],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    blocks = done.stdout.split("---\n")
    for (line, expected), block in zip(asked.items(), blocks[:-1], strict=True):
        proposed = {entry.split("\t")[0] for entry in block.splitlines()}
        assert proposed == expected, line


def _wait_for(leader: int, text: bytes) -> None:
    """Read the shell's output until it contains `text`."""
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while text not in shown:
        ready, _, _ = select.select([leader], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, shown
        shown += os.read(leader, 65536)

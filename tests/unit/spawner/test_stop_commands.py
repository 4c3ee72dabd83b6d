"""spawner.stop_commands: a warning's command gets its variables as data, and the monitor can't choose anything else."""

import os
from pathlib import Path

import pytest

from pyssh_gateway.config.types import Config, Stop
from pyssh_gateway.config.values import Secret
from pyssh_gateway.spawner.processes.process import SpawnError
from pyssh_gateway.spawner.stop_commands import StopCommands, start_warning
from pyssh_gateway.startup.serve import stop_commands
from tests.support.spawning import INHERITED, ready

HOSTILE = ("x'; touch {bait}; '", '"$(touch {bait})`touch {bait}`', "a\nPATH=/nowhere", "github:example")


def test_names_of_people_are_data(tmp_path: Path) -> None:
    """Protects the operator's command from names that people chose: no shell parses them, and each is one line."""
    bait, out = tmp_path / "bait", tmp_path / "out"
    people = tuple(name.format(bait=bait) for name in HOSTILE)
    command = f'printf "%s|%s|%s" "$PYSSH_STOPS_IN" "$PYSSH_STOP_REASON" "$PYSSH_PEOPLE" >{out}; echo $PYSSH_PEOPLE'
    stop = StopCommands(environ={"PATH": os.environ["PATH"]}, warnings=("", command))
    child = ready(start_warning(stop, 1, 60, people, inherited=INHERITED))
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 0
    for descriptor in child.descriptors:
        os.close(descriptor)
    assert not bait.exists()
    assert out.read_text() == "60|idle|" + "\n".join(name.replace("\n", "?") for name in people)


@pytest.mark.parametrize("index", [0, 2, 2**31 - 1])
def test_only_commands_of_the_configuration_run(index: int) -> None:
    """Protects against a monitor that was taken over: an index of a web address, or of nothing, starts no process."""
    stop = StopCommands(warnings=("", "true"))
    with pytest.raises(SpawnError, match=f"the configuration has no command {index} for a warning"):
        start_warning(stop, index, 60, (), inherited=INHERITED)


def test_a_web_address_is_no_command() -> None:
    """Protects a webhook's token from a shell: only commands are in the spawner's table, each at its own index."""
    config = Config(stop=Stop(warn=(Secret("https://hooks.example/T0"), Secret("notify"))))
    environ = {"PATH": "/bin", "PYSSH_GATEWAY_KEYS__GITHUB_TOKEN": "secret"}
    table = stop_commands(config, environ)
    assert (table.warnings, dict(table.environ)) == (("", "notify"), {"PATH": "/bin"})

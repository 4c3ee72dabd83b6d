"""What a supervisor survives: monitors that send nonsense, read nothing or can't be started, and its own bugs."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.ipc import spawner as protocol
from tests.support.supervising import Start, lines, next_line, plan, requests, start
from tests.support.waiting import PATIENCE

__all__ = ["requests", "start"]


@pytest.mark.parametrize(
    "request_",
    [
        {"type": "kill", "id": 1, "process": -1},
        {"type": "run-hook", "id": 1, "index": 2**40},
        {"type": "start-postauth", "id": 1, "user": None},
        {"type": "read-keys", "id": -1, "path": "/"},
    ],
    ids=str,
)
def test_a_malformed_request_costs_its_monitor_and_nothing_else(
    start: Start, tmp_path: Path, request_: dict[str, object]
) -> None:
    """Protects the server from a compromised monitor: values out of range are bad requests."""
    packet = tmp_path / "packet"
    packet.write_bytes(msgspec.msgpack.encode(request_))
    said, err, code = lines(start("asks_badly", str(packet)))
    assert (said, code) == (["generation 1", "generation 2"], 0)
    assert "killing the monitor: bad request: Expected" in err
    assert "Traceback" not in err


def test_a_bug_in_a_request_costs_that_request(start: Start, requests: Callable[..., str]) -> None:
    """Protects all sessions: an error in a request refuses that request, is reported, and the next one is served."""
    # The refusal quotes the path, and would exceed the size of a message.
    too_long = "x" * (protocol.MAX_MESSAGE - 60)
    said, err, code = lines(start("asks", requests(protocol.ReadKeys(1, too_long), protocol.Spawn(2, plan("exit 6")))))
    answers = {answer["id"]: answer for answer, _, _ in map(json.loads, said)}
    assert code == 0
    assert answers[1]["reason"] == "internal error; the server's standard error has more"
    assert answers[2]["status"] == 6
    assert "internal error in a request (ReadKeys)" in err


def test_a_monitor_that_does_not_read_keeps_the_spawner_from_nothing(start: Start) -> None:
    """Protects stops, exits and other work: reports wait until the monitor reads, and the spawner does not block."""
    process = start("reads_nothing")
    assert next_line(process) == "full"
    process.send_signal(signal.SIGTERM)
    said, err, code = lines(process)
    assert (said, err, code) == (["stopping"], "", 0)


@pytest.mark.slow
def test_a_monitor_that_reads_nothing_is_replaced(start: Start) -> None:
    """Protects the server from a monitor that hangs: if it reads no report for a while, it is killed and replaced."""
    process = start("reads_nothing")
    assert next_line(process) == "full"
    assert next_line(process) == "full"
    process.send_signal(signal.SIGTERM)
    said, err, code = lines(process)
    assert (said, code) == (["stopping"], 0)
    assert "killing the monitor: it has not read a report for 5 s" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as an account that has a limit of its own")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no util-linux")
@pytest.mark.parametrize("room_again", [True, False])
def test_a_monitor_that_cannot_be_started_is_tried_again(start: Start, room_again: bool) -> None:
    """Protects the server when the process table is full at its monitor's death: it is reported, and tried again later.

    In the meantime the server can be stopped.
    """
    # A uid without other processes, so that the limit counts only these; it must be able to read the program.
    rights = ("--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    somebody = ("setpriv", "--reuid", str(2_000_000_000 + os.getpid()), *rights)
    process = start("waits", inside=somebody)

    def allow_processes(number: str) -> None:
        command = [*somebody, "prlimit", "--pid", str(process.pid), f"--nproc={number}:"]
        subprocess.run(command, check=True, timeout=PATIENCE)

    monitor = int(next_line(process).split()[1])
    allow_processes("1")
    os.kill(monitor, signal.SIGKILL)
    assert process.stderr is not None
    assert "ended with SIGKILL" in process.stderr.readline()
    assert process.stderr.readline() == (
        "pyssh-gateway: can't start the monitor: Resource temporarily unavailable; trying again\n"
    )
    if room_again:
        allow_processes("100")
        assert next_line(process).startswith("ready")
    process.send_signal(signal.SIGTERM)
    said, err, code = lines(process)
    assert (said, code) == (["SIGTERM", "stopping"] if room_again else [], 0)
    assert "Traceback" not in err

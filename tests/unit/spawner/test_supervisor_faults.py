"""What a supervisor survives: monitors that talk nonsense, read nothing or can't be started, and bugs of its own."""

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
    """Protects the server from a monitor that was taken over: values out of their range are no request."""
    packet = tmp_path / "packet"
    packet.write_bytes(msgspec.msgpack.encode(request_))
    said, err, code = lines(start("asks_badly", str(packet)))
    assert (said, code) == (["generation 1", "generation 2"], 0)
    assert "killing the monitor: bad request: Expected" in err
    assert "Traceback" not in err


def test_a_bug_in_a_request_costs_that_request(start: Start, requests: Callable[..., str]) -> None:
    """Protects everybody's sessions: whatever a request runs into, it is refused, said, and the next one is served."""
    # The refusal would quote the path, and be larger than a message may be.
    too_long = "x" * (protocol.MAX_MESSAGE - 60)
    said, err, code = lines(start("asks", requests(protocol.ReadKeys(1, too_long), protocol.Spawn(2, plan("exit 6")))))
    answers = {answer["id"]: answer for answer, _, _ in map(json.loads, said)}
    assert code == 0
    assert answers[1]["reason"] == "internal error; the server's standard error has more"
    assert answers[2]["status"] == 6
    assert "internal error in a request (ReadKeys)" in err


def test_a_monitor_that_does_not_read_keeps_the_spawner_from_nothing(start: Start) -> None:
    """Protects stops, exits and other work: reports wait for the monitor, and the spawner does not."""
    process = start("reads_nothing")
    assert next_line(process) == "full"
    process.send_signal(signal.SIGTERM)
    said, err, code = lines(process)
    assert (said, err, code) == (["stopping"], "", 0)


@pytest.mark.slow
def test_a_monitor_that_reads_nothing_is_replaced(start: Start) -> None:
    """Protects the server from one that hangs: after a while without a report read it counts as stuck."""
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
    """Protects the server from a process table that is full when its monitor dies: a line in the log, and later.

    Meanwhile it can be stopped.
    """
    # An account that nobody has, so that nothing else counts; it has to read the program.
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

"""The supervisor in its own process, with tiny monitors: restarts, signals, and what it permits."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyssh_gateway.config.types import Boot, Directory, Service
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.crashes import MAX_CRASHES
from pyssh_gateway.spawner.reload import READ_SECONDS
from pyssh_gateway.spawner.supervisor import SAME_SIGNAL_SECONDS
from tests.support import processes
from tests.support.account import scratch_directory
from tests.support.supervising import USER, Start, lines, next_line, plan, requests, start
from tests.support.waiting import PATIENCE, until

__all__ = ["requests", "start"]


def reports(process: subprocess.Popen[str]) -> list[list[Any]]:
    """The monitor's reports, as [report, number of descriptors, contents]."""
    said, err, code = lines(process)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in said]


@pytest.mark.parametrize("code", [0, 2])
def test_a_monitor_that_means_to_end_ends_everything(start: Start, code: int) -> None:
    """Exit code 0 is a clean stop; 2 is a wrong machine or configuration, which a restart can't repair."""
    assert lines(start("exits", str(code))) == (["generation 1"], "", code)


def test_a_monitor_that_leaves_is_left_to_write_its_log(start: Start) -> None:
    """Protects the stop: a monitor that leaves with an answer unread has not crashed, and is not replaced."""
    assert lines(start("leaves_unread")) == (["generation 1", "last word"], "", 0)


def test_a_crash_is_followed_by_a_new_monitor_that_knows_of_it(start: Start) -> None:
    """Exceptions, signals and exit codes are survived, reported, and passed to the next monitor for the log."""
    said, err, code = lines(start("crashes_at_first"))
    assert code == 0
    assert said[:5] == ["generation 1", "generation 2", "generation 3", "generation 4", "generation 5"]
    assert json.loads(said[5]) == [["exit code 1", 0], ["SIGKILL", 0], ["exit code 41", 0], ["signal 35", 0]]
    assert "RuntimeError: a bug of the test's" in err
    assert err.count("ended with") == 4


def test_crashes_without_end_end(start: Start) -> None:
    """After too many crashes in a short time the server gives up with exit code 1, and the platform decides."""
    said, err, code = lines(start("crashes_always"))
    assert code == 1
    assert said == [f"generation {number}" for number in range(1, MAX_CRASHES + 2)]
    assert "giving up" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_is_handed_on_once(start: Start, number: int) -> None:
    """The monitor learns which signal it was, for the log, and stops in its own time; its exit code is ours."""
    process = start("waits")
    assert next_line(process).startswith("ready")
    process.send_signal(number)
    assert lines(process) == ([signal.Signals(number).name, "stopping"], "", 0)


def reread(process: subprocess.Popen[str]) -> list[Any]:
    """The result of reading the configuration again: the drain time in force, what changed, what was wrong."""
    read: list[Any] = json.loads(next_line(process))
    return read


def test_a_hangup_has_the_configuration_read_again(start: Start, tmp_path: Path) -> None:
    """Protects a change of the configuration: the spawner's permissions change before the monitor learns of it."""
    config = tmp_path / "config"
    config.write_text("7")
    process = start("rereads", "7", config=config)
    assert next_line(process) == "ready"
    process.send_signal(signal.SIGHUP)
    assert reread(process) == [7.0, ["stop.drain"], []]
    assert next_line(process) == "there is no account drain-7 on this machine"
    config.write_text("8")
    process.send_signal(signal.SIGHUP)
    assert reread(process)[0] == 8.0
    assert next_line(process) == "drain-7 is not an account that may log in"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)


def test_a_reader_that_fails_changes_nothing(start: Start, tmp_path: Path) -> None:
    """Protects the spawner from its parser: if the child that reads fails, that is reported, and the old one stays."""
    process = start("rereads", "0", config=tmp_path / "missing")
    assert next_line(process) == "ready"
    process.send_signal(signal.SIGHUP)
    problem = "the configuration can't be read again: the process that read it failed (1)"
    assert reread(process) == [None, [], [problem]]
    assert next_line(process) == "drain-0 is not an account that may log in"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)


@pytest.mark.soak
def test_a_reader_that_hangs_holds_up_nobody(start: Start, tmp_path: Path) -> None:
    """Protects all requests from a disk that does not answer: they are served, and the reading has a deadline."""
    config = tmp_path / "fifo"
    os.mkfifo(config)
    process = start("rereads_and_asks", "0", config=config)
    assert next_line(process) == "ready"
    process.send_signal(signal.SIGHUP)
    assert next_line(process) == "asked and answered"
    problem = f"the configuration can't be read again: it could not be read within {READ_SECONDS} s"
    assert reread(process) == [None, [], [problem]]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)


def test_a_stop_does_not_wait_for_a_reader(start: Start, tmp_path: Path) -> None:
    """Protects a platform's stop: a reading in progress is abandoned, and its process ends."""
    config = tmp_path / "fifo"
    os.mkfifo(config)
    process = start("waits", config=config)
    monitor = int(next_line(process).split()[1])
    process.send_signal(signal.SIGHUP)
    until(lambda: len(processes.descendants(process.pid)) == 2, what="the reader")
    (reader,) = [child.pid for child in processes.descendants(process.pid) if child.pid != monitor]
    process.send_signal(signal.SIGTERM)
    assert lines(process) == (["SIGTERM", "stopping"], "", 0)
    until(lambda: not processes.is_running(reader), what="its end")


def test_signals_that_come_together_are_one_wish(start: Start) -> None:
    """Signals at the same time count once: Ctrl-C reaches the whole group, and make passes it on again."""
    process = start("waits")
    assert next_line(process).startswith("ready")
    processes.signal_together(process.pid, signal.SIGINT, signal.SIGTERM)
    assert lines(process) == (["SIGINT", "stopping"], "", 0)


def test_a_second_wish_ends_at_once(start: Start) -> None:
    """A second Ctrl-C ends the server at once."""
    process = start("deaf")
    monitor = int(next_line(process).split()[1])
    process.send_signal(signal.SIGTERM)
    assert next_line(process) == "ignored"
    deadline = time.monotonic() + 2 * SAME_SIGNAL_SECONDS
    while time.monotonic() < deadline:  # a signal counts as a second one only after a while
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert lines(process)[2] == 128 + signal.SIGINT
    until(lambda: not processes.is_running(monitor), what=f"end of {monitor}")


@pytest.mark.slow
def test_a_monitor_that_does_not_leave_is_killed(start: Start) -> None:
    """A monitor that does not stop is killed after the drain time and a margin."""
    process = start("deaf")
    assert next_line(process).startswith("ready")
    process.send_signal(signal.SIGTERM)
    said, err, code = lines(process)
    assert (said, code) == (["ignored"], 0)
    assert "did not stop in time" in err


def test_the_monitor_is_out_of_the_terminals_reach(start: Start) -> None:
    """The monitor has its own session: Ctrl-C and a closed terminal only reach the spawner, which decides."""
    process = start("waits")
    monitor = int(next_line(process).split()[1])
    assert os.getsid(monitor) == monitor
    process.send_signal(signal.SIGTERM)
    assert lines(process)[2] == 0


def test_a_request_is_answered_and_its_exit_reported(start: Start, requests: Callable[..., str]) -> None:
    """A process gets three pipes, or a pty's one descriptor; its exit status or signal is reported."""
    process = start(
        "asks", requests(protocol.Spawn(5, plan("exit 6")), protocol.Spawn(8, plan("kill -9 $$", terminal=True)))
    )
    answers = reports(process)
    spawned = [answer for answer in answers if answer[0]["type"] == "spawned"]  # in the order in which they are ready
    first, second = sorted(spawned, key=lambda answer: int(answer[0]["id"]))
    ends = [answer for answer in answers if answer[0]["type"] == "exited"]
    assert (first[0]["type"], first[0]["id"], first[0]["tty"], first[1]) == ("spawned", 5, "", 3)
    assert (second[0]["type"], second[0]["id"], second[1]) == ("spawned", 8, 1)
    assert second[0]["tty"].startswith("/dev/pts/")
    by_id = {report["id"]: report for report, _, _ in ends}
    assert by_id[5] == {"type": "exited", "id": 5, "status": 6, "signal": None, "core_dumped": False}
    assert (by_id[8]["status"], by_id[8]["signal"]) == (None, 9)


def test_an_account_that_is_gone(start: Start, requests: Callable[..., str]) -> None:
    """An account that is permitted but not on the machine is refused with a reason."""
    process = start("asks", requests(protocol.StartPostauth(1, "no-such-user")), users="no-such-user")
    assert reports(process)[0][0]["reason"] == "there is no account no-such-user on this machine"


def test_only_the_configured_key_files(start: Start, requests: Callable[..., str], tmp_path: Path) -> None:
    """The spawner opens, with its own rights, only listed files, and not another spelling of a listed name."""
    keys = tmp_path / "keys.pub"
    keys.write_text("ssh-ed25519 AAAA example\n")
    other = f"{keys.parent}/../{keys.parent.name}/keys.pub"
    wanted = [protocol.ReadKeys(n, path) for n, path in enumerate([str(keys), "/etc/shadow", other, ""], start=1)]
    answers = reports(start("asks", requests(*wanted), files=str(keys)))
    assert answers[0] == [{"type": "keys-opened", "id": 1}, 1, "ssh-ed25519 AAAA example\n"]
    assert [(report["type"], count) for report, count, _ in answers[1:]] == [("refused", 0)] * 3


def test_a_key_file_that_is_not_there_or_never_answers(
    start: Start, requests: Callable[..., str], tmp_path: Path
) -> None:
    """A missing file is reported, and a FIFO in its place does not block the spawner."""
    fifo, missing = tmp_path / "fifo", tmp_path / "missing"
    os.mkfifo(fifo)
    wanted = (protocol.ReadKeys(1, str(missing)), protocol.ReadKeys(2, str(fifo)))
    answers = reports(start("asks", requests(*wanted), files=f"{missing} {fifo}"))
    assert answers[0][0]["reason"] == "No such file or directory"
    assert answers[1][0]["reason"] == "it is not a regular file"


def test_a_monitor_that_talks_nonsense_is_replaced(start: Start) -> None:
    """A monitor that sends an invalid message is killed and replaced."""
    said, err, code = lines(start("garbage"))
    assert (said, code) == (["generation 1", "generation 2"], 0)
    assert "killing the monitor: bad request" in err


def test_no_exit_is_lost_among_many(start: Start, requests: Callable[..., str]) -> None:
    """Children that end together wake the spawner once, and each is reaped and reported."""
    wanted = [protocol.Spawn(number, plan("exit 3")) for number in range(1, 31)]
    answers = reports(start("asks", requests(*wanted)))
    for kind in ("spawned", "exited"):
        assert sorted(report["id"] for report, _, _ in answers if report["type"] == kind) == list(range(1, 31))


# -- boot and services -----------------------------------------------------------------------------------------------

SERVICES = Boot(
    directory=(Directory(path="/", owner="no-such-user"),),
    service=(
        Service(name="one", command="echo ready; exec sleep 100", user=USER.pw_name),
        Service(name="two", command="echo ready; exec sleep 100", user=USER.pw_name),
    ),
)


SESSION = protocol.Spawn(1, plan("true"))
"""The first session, after which services are started."""


def heard(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    """The next events that a monitor prints."""
    return [json.loads(next_line(process)) for _ in range(count)]


def names(events: list[dict[str, Any]]) -> list[str]:
    """Short names of events."""
    return [f"{event['event']} {event.get('service', '')}".strip() for event in events]


def test_boot_and_services_are_told_and_stopped_in_order(start: Start, requests: Callable[..., str]) -> None:
    """Protects the log: steps, starts and lines are reported, and at a stop the ends, the last service's first."""
    process = start("hears", requests(), boot=SERVICES)
    assert next_line(process).startswith("generation 1")
    events = heard(process, 5)
    assert names(events[:1]) == ["boot.step"]
    assert sorted(names(events[1:])) == [
        f"service.{what} {name}" for what in ("output", "started") for name in ("one", "two")
    ]
    assert names(events).index("service.started one") < names(events).index("service.started two")
    process.send_signal(signal.SIGTERM)
    said, err, code = lines(process)
    assert (said[2:], err, code) == (["done"], "", 0)
    assert names([json.loads(line) for line in said[:2]]) == ["service.ended two", "service.ended one"]


def test_services_do_not_notice_a_crash(start: Start, requests: Callable[..., str]) -> None:
    """Protects services such as dockerd from a crash of the monitor."""
    process = start("hears", requests(SESSION), "crash", boot=Boot(service=SERVICES.service[:1]))
    assert next_line(process).startswith("generation 1")
    pid = heard(process, 2)[0]["pid"]
    assert next_line(process).startswith("generation 2")
    assert processes.is_running(pid)
    process.send_signal(signal.SIGTERM)
    said, _, code = lines(process)
    assert (names([json.loads(said[0])]), json.loads(said[0])["pid"], said[1:]) == (
        ["service.ended one"],
        pid,
        ["done"],
    )
    assert code == 0


def test_services_end_with_the_server(start: Start, requests: Callable[..., str]) -> None:
    """Protects against a daemon without a server: services end even if the monitor leaves without stopping them."""
    process = start("hears", requests(SESSION), "leave", boot=Boot(service=SERVICES.service[:1]))
    assert next_line(process).startswith("generation 1")
    pid = heard(process, 1)[0]["pid"]
    assert lines(process)[2] == 0
    assert processes.find(pid) is None


def test_a_second_wish_waits_for_no_service(start: Start, requests: Callable[..., str]) -> None:
    """Protects a person who presses Ctrl-C twice: a service that does not end is killed."""
    deaf = Service(name="deaf", command="trap '' TERM; echo ready; while :; do sleep 0.1; done", user=USER.pw_name)
    process = start("hears", requests(SESSION), boot=Boot(service=(deaf,)))
    assert next_line(process).startswith("generation 1")
    pid = heard(process, 2)[0]["pid"]
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 2 * SAME_SIGNAL_SECONDS
    while time.monotonic() < deadline:  # a signal counts as a second one only after a while
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert lines(process)[2] == 128 + signal.SIGTERM
    until(lambda: not processes.is_running(pid), what="end of the service")


def test_what_needs_an_account_waits_for_it_and_nothing_else_does(
    start: Start, requests: Callable[..., str], tmp_path: Path
) -> None:
    """Protects the first login: it waits until its account is complete, and for no other account."""
    keys, late = tmp_path / "keys.pub", tmp_path / "late"
    keys.write_text("ssh-ed25519 AAAA example\n")
    wanted = (
        protocol.AwaitAccount(1, USER.pw_name),
        protocol.StartPostauth(2, USER.pw_name),
        protocol.ReadKeys(4, str(keys)),
        protocol.AwaitAccount(5, "root"),
        protocol.StartPostauth(6, "root"),
    )
    process = start("asks", requests(*wanted), files=str(keys), late=str(late))
    first = [json.loads(next_line(process))[0] for _ in range(2)]
    assert [(report["type"], report["id"]) for report in first] == [("refused", 5), ("refused", 6)]
    late.touch()
    then: dict[int, str] = {}
    while len(then) < 3:
        report = json.loads(next_line(process))[0]
        if report["type"] not in {"news", "exited"}:
            then[report["id"]] = report["type"]
    assert then == {1: "account-ready", 2: "spawned", 4: "keys-opened"}


# -- orphans, and the supervisor as PID 1 ----------------------------------------------------------------------------


@pytest.fixture
def daemon(requests: Callable[..., str], scratch: Path) -> tuple[str, Path]:
    """Requests for a command that leaves a daemon behind, and the file to which the daemon writes its pid."""
    written = scratch / "pid"
    written.touch()
    written.chmod(0o666)
    inner = f"echo $$ >{written}; exec sleep 100"
    script = 'setsid sh -c "$INNER" >/dev/null 2>&1 </dev/null & exit 0'
    return requests(protocol.Spawn(1, msgspec.structs.replace(plan(script), env={b"INNER": inner.encode()}))), written


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory that the account can write to."""
    with scratch_directory(USER) as directory:
        yield directory


def test_what_sessions_leave_behind_is_ours(start: Start, daemon: tuple[str, Path]) -> None:
    """Protects the process table, and samples of background work, which find daemons below the spawner."""
    asked, written = daemon
    process = start("hears", asked)
    pid = int(until(written.read_text, what="pid of the daemon"))
    until(lambda: (found := processes.find(pid)) is not None and found.parent == process.pid, what="adoption")
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes.find(pid) is None, what="reaping")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a process table of its own here")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_process_of_a_container_reaps_and_stops(start: Start, daemon: tuple[str, Path], number: int) -> None:
    """Protects plain Docker: as PID 1 the server reaps all orphans, and stop signals work as usual."""
    asked, written = daemon
    outside = start("hears", asked, inside=("unshare", "--fork", "--pid", "--mount-proc", "--kill-child"))
    assert next_line(outside).startswith("generation 1")
    init = next(process for process in processes.descendants(outside.pid) if process.parent == outside.pid)
    until(written.read_text, what="pid of the daemon")

    def orphan() -> processes.Process | None:
        return next((one for one in processes.descendants(init.pid) if one.name == "sleep"), None)

    found = until(orphan, what="daemon")
    assert found is not None
    pid = found.pid
    until(lambda: (now := processes.find(pid)) is not None and now.parent == init.pid, what="adoption")
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes.find(pid) is None, what="reaping")
    os.kill(init.pid, number)
    assert lines(outside) == (["done"], "", 0)

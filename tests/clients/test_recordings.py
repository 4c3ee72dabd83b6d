"""Recordings of sessions, made by the real server for the real ssh: what is in them, and what never is."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import termios
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.account import other_account
from tests.support.client import Client, client_environment
from tests.support.recordings import Cast, casts
from tests.support.reloads import Config
from tests.support.server import EventFields, Server, Settings
from tests.support.waiting import PATIENCE, until

NOTICE = "This session is recorded."

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only a server of root has an account for the recorder")


class Recorded:
    """A server that records, and its client."""

    def __init__(self, server: Server, key: Path) -> None:
        self.server = server
        self.client = Client(server, key)

    @property
    def directory(self) -> Path:
        """Where the recordings are."""
        return self.server.audit_dir / "recordings"

    @property
    def pid(self) -> int:
        """The recorder."""
        return until(lambda: next(iter(self.pids), 0), what="a recorder")

    @property
    def pids(self) -> list[int]:
        """All recorders."""
        below = processes.descendants(self.server.pid)
        return [each.pid for each in below if each.name == "pyssh-recorder" and each.state != "Z"]

    def ended(self, **fields: str) -> tuple[EventFields, Cast]:
        """What the log says at the end of a recording, and the recording."""
        event = self.server.wait_for("recording.ended", since=0, seconds=PATIENCE, count=1, **fields)
        return event, Cast(self.directory / event["file"])


MakeRecorded = Callable[..., Recorded]


@pytest.fixture
def record(make_server: MakeServer, user_key: KeyPair) -> MakeRecorded:
    """Starts a server that records: `record("all", record_input=True)`."""

    def make(what: str = "pty", *, login: Settings | None = None, **audit: object) -> Recorded:
        server = make_server({"audit": {"record": what} | audit}, login_settings=login)
        return Recorded(server, user_key.private)

    return make


def test_shell_on_a_terminal_is_recorded(record: MakeRecorded) -> None:
    """Protects the point of it: output with the notice first, sizes, the exit; and the log says that it is whole."""
    recorded = record()
    with recorded.client.terminal(size=(31, 97)) as terminal:
        terminal.expect(NOTICE)
        terminal.ask("stty -echo; PS1=; echo be''gun", "begun")
        terminal.resize(40, 120)
        wait = "until stty size | grep '40 120'; do sleep 0.01; done"
        terminal.ask(f"{wait}; printf 'gr\\303\\274n \\344\\270\\255'", "40 120\r\n.*grün 中")
        terminal.send("exit 7\n")
        assert terminal.wait() == 7
    event, cast = recorded.ended()
    (started,) = recorded.server.find("recording.started")
    (opened,) = recorded.server.find("session.opened")
    assert started["file"] == event["file"] == f"{recorded.server.login}/{opened['session']}.cast.zst"
    assert (event["reason"], event["missing"], started["input"]) == ("session ended", 0, False)
    assert event["identity"] == started["identity"] == opened["identity"]
    assert cast.header["term"] == {"cols": 97, "rows": 31, "type": "xterm"}
    assert cast.shown.startswith(f"{NOTICE}\r\n")
    assert event["bytes"] == len(cast.shown.encode())
    assert "grün 中" in cast.shown
    assert (cast.data("r"), cast.data("x"), cast.data("i")) == (["120x40"], ["7"], [])
    assert terminal.screen.startswith(f"{NOTICE}\r\n".encode()), "the person was not told first"


def test_command_on_a_terminal_is_no_way_around(record: MakeRecorded) -> None:
    """Protects "pty": `ssh -t host command` is recorded, too; without a terminal it is not, and is told nothing."""
    recorded = record()
    assert recorded.client.output("echo plain") == "plain\n"
    with recorded.client.terminal("echo sh''own; kill -9 $$") as terminal:
        terminal.wait()
    _, cast = recorded.ended()
    assert cast.header["command"] == "echo sh''own; kill -9 $$"
    assert cast.shown == f"{NOTICE}\r\nshown\r\n"
    assert cast.data("x") == ["137"]
    assert len(casts(recorded.directory)) == 1


def test_all_has_what_commands_write(record: MakeRecorded) -> None:
    """Protects "all": output and errors of a command without a terminal, byte for byte; nothing is added to them."""
    recorded = record("all", record_input=True)
    result = recorded.client.run("cat; printf '\\377x' >&2; exit 3", input=b"given\n")
    assert (result.status, result.stdout, result.stderr) == (3, b"given\n", b"\xffx")
    _, cast = recorded.ended()
    assert sorted(cast.data("o")) == ["given\n", "\ufffdx"]
    assert (cast.data("i"), cast.data("x")) == ([], ["3"]), "what programs are sent is not typed"
    recorded.client.run("sftp", "-s")
    recorded.server.wait_for("session.closed", count=2)
    assert len(casts(recorded.directory)) == 1, "files over SFTP are in the log"


PROMPTS = r"""
import getpass, os
for ask in ("read -rs word", "stty -echo; read -r word; stty echo"):
    print("next", flush=True)
    os.system(f"bash -c '{ask}; echo had ${{#word}}'")
print("next", flush=True)
print("had", len(getpass.getpass()), flush=True)
print("had", input())
"""
"""Asks for a password as bash's read -s does, as a script with stty, and as sudo and passwd do (tcsetattr(3))."""


def test_passwords_are_not_recorded(record: MakeRecorded, scratch: Path) -> None:
    """Protects what is typed at a prompt that does not show it, even if input is recorded; what is shown is."""
    script = scratch / "prompts.py"
    script.write_text(PROMPTS)
    recorded = record(record_input=True)
    with recorded.client.terminal(f"exec python3 {script}") as terminal:
        for _ in range(3):
            terminal.expect("next")
            pid = recorded.server.wait_for("session.opened")["pid"]
            until(lambda pid=pid: not _echoes(pid), what="a prompt that shows nothing")  # type: ignore[misc]  # mypy infers no default
            terminal.send("secret\n")
            terminal.expect("had 6")
        until(lambda: _echoes(pid), what="a prompt that shows what is typed")
        terminal.send("public\n")
        terminal.wait()
    _, cast = recorded.ended()
    assert "secret" not in "".join(map(str, cast.events))
    assert cast.data("i") == ["public\n"]


def _echoes(pid: int) -> bool:
    with Path(f"/proc/{pid}/fd/0").open() as terminal:
        return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def test_key_and_account_override_what_is_recorded(record: MakeRecorded, user_key: KeyPair) -> None:
    """Protects exceptions: what is set for one key counts before what is set for the account, at the next login."""
    recorded = record("all", login={"record": "off"})
    server, config = recorded.server, Config(recorded.server)
    assert recorded.client.output("echo one") == "one\n"
    fingerprint = server.wait_for("connection.authenticated")["fingerprint"]
    config.reload({"login": [server.settings["login"][0] | {"record_keys": [f"{fingerprint}=all"]}]})
    assert recorded.client.output("echo two") == "two\n"
    assert recorded.ended()[1].shown == "two\n"
    config.reload({"login": [server.settings["login"][0] | {"record": "all", "record_keys": [f"{fingerprint}=off"]}]})
    assert recorded.client.output("echo three") == "three\n"
    assert len(casts(recorded.directory)) == 1


def test_recording_can_be_switched_on_and_off(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a running server: no recorder until something is recorded; then one, also for who is on already."""
    recorded = Recorded(make_server({"audit": {"record": "off"}}), user_key.private)
    config = Config(recorded.server)
    with recorded.client.terminal("echo on; read line; echo $line") as terminal:
        terminal.expect("on")
        assert recorded.pids == []
        assert not recorded.directory.exists()
        config.reload({"audit": {"record": "all", "record_notice": "Smile!"}})
        assert recorded.client.output("echo two") == "two\n"
        assert recorded.ended()[1].shown == "two\n"
        config.reload({"audit": {"record": "off"}})
        assert recorded.client.output("echo three") == "three\n"
        terminal.send("old\n")
        assert terminal.wait() == 0
    assert len(casts(recorded.directory)) == 1, "what was begun before is recorded, or what was begun after"


def test_announcements_are_recorded(record: MakeRecorded) -> None:
    """Protects the story: what the server itself writes to the terminal is in the recording; a stop is its end."""
    recorded = record()
    with recorded.client.terminal("echo on; exec sleep 1000") as terminal:
        terminal.expect("on")
        recorded.server.stop()
        terminal.wait()
    (cast,) = casts(recorded.directory)
    assert "stopped" in cast.shown or "stopping" in cast.shown.lower(), cast.shown
    assert "recording.ended" in (recorded.server.audit_dir / "events.jsonl").read_text()


def test_recording_ends_at_its_bounds_and_the_session_goes_on(record: MakeRecorded) -> None:
    """Protects the disk and the person: the recording says that it ends here, and the session does not."""
    recorded = record("all", record_session_size="64KiB")
    result = recorded.client.run("head -c 200000 /dev/zero; echo end")
    assert result.stdout == b"\0" * 200_000 + b"end\n"
    event, cast = recorded.ended()
    assert (event["reason"], event["bytes"]) == ("audit.record_session_size is reached", 65536)
    assert cast.shown == "\0" * 65536
    assert cast.data("m") == ["the recording ends here: audit.record_session_size is reached"]


def test_session_goes_on_while_the_recorder_does_not(record: MakeRecorded) -> None:
    """Protects the user's bytes: a recorder that is stopped holds up nothing; the recording says what is missing."""
    recorded = record("all")
    size = 32 * 1024 * 1024
    with recorded.client.popen(f"read line; head -c {size} /dev/zero; read line; echo end") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        recorded.server.wait_for("recording.started")
        os.kill(recorded.pid, signal.SIGSTOP)
        process.stdin.write(b"\n")
        process.stdin.flush()
        left = size
        while left > 0:
            left -= len(os.read(process.stdout.fileno(), 1 << 20))
        os.kill(recorded.pid, signal.SIGCONT)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b"end\n"
    event, cast = recorded.ended()
    assert event["missing"] > size / 2
    assert event["bytes"] + event["missing"] == size + len("end\n")
    assert cast.data("m") == [f"{event['missing']} bytes of output are missing here"]
    assert len(cast.shown) == event["bytes"]


def test_recording_goes_on_after_the_recorder_was_killed(record: MakeRecorded) -> None:
    """Protects the record: kill -9 loses at most what was not flushed; another recorder goes on in another file."""
    recorded = record()
    with recorded.client.terminal("echo before; while read line; do echo $line; done") as terminal:
        terminal.expect("before")
        until(lambda: any("before" in cast.shown for cast in casts(recorded.directory)), what="a flush")
        first = recorded.pid
        os.kill(first, signal.SIGKILL)
        lost = recorded.server.wait_for("recording.ended", reason="the recorder ended")
        again = recorded.server.wait_for("recording.started", count=2)
        assert recorded.pid != first
        terminal.ask("after", "after.*after")
        terminal.send("\x04")
        assert terminal.wait() == 0
    assert again["file"] == lost["file"].replace(".cast.zst", ".2.cast.zst")
    assert "before" in Cast(recorded.directory / lost["file"]).shown
    _, cast = recorded.ended(reason="session ended")
    assert "after" in cast.shown
    assert "the recorder was started again" in cast.data("m")[0]
    assert "the recorder" in recorded.server.stderr


def test_directory_that_was_removed_is_made_again(record: MakeRecorded) -> None:
    """Protects recordings from a tidy administrator: a new directory, and nothing is silently missing."""
    recorded = record("all")
    assert recorded.client.output("echo one") == "one\n"
    recorded.ended()
    shutil.rmtree(recorded.directory)
    assert recorded.client.output("echo two; sleep 0.1; echo three") == "two\nthree\n"
    event, cast = recorded.ended(reason="session ended", session=recorded.server.find("session.opened")[1]["session"])
    assert cast.shown in {"two\nthree\n", "three\n"}
    assert event["missing"] + len(cast.shown) == len("two\nthree\n")


def test_old_recordings_make_room(record: MakeRecorded) -> None:
    """Protects `audit.record_keep_size`: the oldest go when there is no room for all."""
    recorded = record("all", record_keep_size="1MiB")
    for number in range(4):
        assert recorded.client.run("head -c 300000 /dev/urandom").status == 0
        recorded.server.wait_for("recording.ended", count=number + 1)
    files = [event["file"] for event in recorded.server.find("recording.ended")]

    def gone() -> bool:
        return not (recorded.directory / files[0]).exists()

    until(gone, what="a removed recording")
    assert (recorded.directory / files[-1]).exists()


def test_session_that_takes_all_room_ends_its_own_recording(record: MakeRecorded) -> None:
    """Protects the disk and other recordings: what a running session shows counts; the session goes on."""
    recorded = record("all", record_keep_size="1MiB")
    with recorded.client.popen("head -c 1500000 /dev/urandom | base64 -w0; read line; echo end") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert len(process.stdout.read(2_000_000)) == 2_000_000
        event = recorded.server.wait_for("recording.ended")
        assert event["reason"] == "audit.record_keep_size is reached"
        until(lambda: not (recorded.directory / event["file"]).exists(), what="a removed recording")
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b"end\n"


@needs_root
@pytest.mark.soak
def test_full_disk_ends_the_recording_alone(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the session from a disk that is full of recordings: it goes on, and the log says what is missing."""
    recorded = Recorded(make_server({"audit": {"record": "off"}}), user_key.private)
    recorded.directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0750", "tmpfs", recorded.directory], check=True)
    try:
        Config(recorded.server).reload({"audit": {"record": "all"}})
        result = recorded.client.run("head -c 1000000 /dev/urandom; echo end")
        assert (len(result.stdout), result.stdout[-4:]) == (1_000_004, b"end\n")
        event = recorded.server.wait_for("recording.ended")
        assert event["reason"] == "No space left on device"
        assert len(Cast(recorded.directory / event["file"]).shown) > 1000
        assert recorded.client.output("echo on") == "on\n"
        recorded.server.end()
    finally:
        subprocess.run(["umount", "--lazy", recorded.directory], check=True)


@needs_root
@pytest.mark.soak
def test_flood_of_one_account_costs_others_nothing(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects recordings of others: while one account floods its terminals, another one's recording is whole."""
    keys = [f"file:{user_key.public}"]
    with other_account("flood") as other:
        server = make_server({"audit": {"record": "pty"}})
        login = server.settings["login"]
        Config(server).reload({"login": [*login, {"user": other.pw_name, "keys": keys}]})
        recorded = Recorded(server, user_key.private)
        with ExitStack() as stack:
            for _ in range(4):
                argv = recorded.client.argv("stty raw; cat /dev/zero", "-tt", user=other.pw_name)
                flood = subprocess.Popen(
                    argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=client_environment()
                )
                stack.callback(flood.communicate)
                stack.callback(flood.kill)
            server.wait_for("recording.started", user=other.pw_name, count=4)
            with recorded.client.terminal("while read -r word; do echo got $word; done") as terminal:
                for number in range(50):
                    terminal.ask(str(number), f"got {number}\r")
                terminal.send("\x04")
                assert terminal.wait() == 0
            event, cast = recorded.ended(user=server.login)
        assert (event["missing"], event["reason"]) == (0, "session ended")
        assert [f"got {number}\r" in cast.shown for number in range(50)] == [True] * 50
        server.wait_for("recording.ended", user=other.pw_name, count=4)


@needs_root
def test_recorder_and_its_files_are_nobody_elses(record: MakeRecorded, account: pwd.struct_passwd) -> None:
    """Protects what was recorded: the recorder has no rights and sees only its directory; users can't read that."""
    recorded = record("all")
    result = recorded.client.run(
        f"echo here; ls {recorded.server.audit_dir}; ls {recorded.directory}; kill -9 {recorded.pid}"
    )
    assert result.stdout == b"here\n"
    assert b"ermission denied" in result.stderr
    recorded.ended()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{recorded.pid}/status").read_text().splitlines())
    fields = {name: value.split() for name, value in status.items()}
    assert (fields["NoNewPrivs"], fields["Seccomp"], fields["Groups"]) == (["1"], ["2"], [])
    assert {fields[name][0] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd")} == {"0" * 16}
    monitor = Path(f"/proc/{recorded.server.gateway_pid}")
    assert processes.owner(recorded.pid) == processes.owner(recorded.server.gateway_pid) != 0
    assert monitor.exists()
    assert Path(f"/proc/{recorded.pid}/environ").stat().st_uid == 0, "others of its account may look into it"
    assert Path(f"/proc/{recorded.pid}/root").readlink() == recorded.directory
    assert sum("socket" in target for target in processes.descriptors(recorded.pid)) == 2
    (path,) = recorded.directory.rglob("*.zst")
    group = recorded.server.audit_dir.stat().st_gid
    for place, mode in ((path, 0o640), (path.parent, 0o2750), (recorded.directory, 0o2750)):
        found = place.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, group)
        assert found.st_uid == processes.owner(recorded.server.gateway_pid)

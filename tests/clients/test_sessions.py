"""What a command and a login shell get: directory, environment, streams and exit status, as over sshd."""

import asyncio
import hashlib
import os
import pwd
import re
import signal
import subprocess
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.account import EXTRA_GROUP
from tests.support.client import Client, Result, terminate
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

BULK_BYTES = 24 * 1024 * 1024
"""More than every buffer on the way together: the windows (2 MiB), the pipes (1 MiB) and the sockets."""


def environment(text: str) -> dict[str, str]:
    """The output of `env -0`."""
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


def test_command_runs_in_the_home_directory(client: Client, account: pwd.struct_passwd) -> None:
    """Protects that a command starts in the account's home directory."""
    assert client.output("pwd") == f"{account.pw_dir}\n"


def test_command_runs_in_the_accounts_shell(client: Client, account: pwd.struct_passwd) -> None:
    """Protects that the account's shell from passwd runs a command, and not as a login shell."""
    assert client.output("echo $0").strip() == account.pw_shell.rpartition("/")[2]


def test_shell_without_pty_is_a_login_shell(client: Client, account: pwd.struct_passwd) -> None:
    """Protects VS Code's mode that feeds lines to a shell without a pty: argv[0] begins with a dash."""
    result = client.run(None, "-T", input=b"echo $0\n")
    assert (result.status, result.stdout.split(b"\n")[-2]) == (0, f"-{account.pw_shell.rpartition('/')[2]}".encode())


def test_script_on_standard_input(client: Client) -> None:
    """Protects `ssh -T host < script`: all lines are run, and the status is that of the last one."""
    result = client.run(None, "-T", input=b"x=4\necho $((x * 10 + 2))\nexit 9\n")
    assert (result.status, result.stdout.splitlines()[-1]) == (9, b"42")


def test_environment_is_the_documented_one(client: Client, account: pwd.struct_passwd, server: Server) -> None:
    """Protects the exact set of variables that a command gets, so that no variable of the server leaks into it."""
    env = environment(client.output("env -0"))
    expected = {
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "HOME": account.pw_dir,
        "SHELL": account.pw_shell,
        "MAIL": f"/var/mail/{account.pw_name}",
    }
    assert {name: env.get(name) for name in expected} == expected
    made_by_the_shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert set(env) - made_by_the_shell - set(expected) - {"PATH", "LANG", "TZ"} == {
        "SSH_CONNECTION",
        "SSH_CLIENT",
        "PYSSH_CONTROL",
        "PYSSH_IDENTITY",
        "PYSSH_SESSION",
    }
    assert "/usr/bin" in env["PATH"].split(":")


def test_environment_names_both_ends_of_the_connection(client: Client, server: Server) -> None:
    """Protects SSH_CONNECTION and SSH_CLIENT, from which scripts learn the client's address."""
    since = server.mark()
    connection, ssh_client = client.output('echo "$SSH_CONNECTION"; echo "$SSH_CLIENT"').splitlines()
    port = server.wait_for("connection.opened", since=since)["peer_port"]
    assert connection == f"127.0.0.1 {port} 127.0.0.1 {server.port}"
    assert ssh_client == f"127.0.0.1 {port} {server.port}"


@pytest.mark.parametrize("settings", [{}, {"set_env": ["TZ=Etc/GMT+1"]}], ids=["server", "login"])
def test_environment_has_the_servers_time_zone(
    make_server: MakeServer, user_key: KeyPair, settings: dict[str, list[str]]
) -> None:
    """Protects images with `ENV TZ=...`: sessions use that time zone, unless the login's settings name another."""
    session = {"session": {"accept_env": ["TZ"]}}
    server = make_server(session, login_settings=settings, environ={"TZ": "Etc/GMT-2"})
    asked = Client(server, user_key.private).run("date +%Z", "-o", "SendEnv=TZ", environ={"TZ": "Etc/GMT-9"})
    assert asked.stdout == (b"-01\n" if settings else b"+02\n")


def test_environment_of_the_server_does_not_leak(client: Client) -> None:
    """Protects secrets in the server's own environment, such as a platform's tokens."""
    assert "PYSSH_TEST_MARKER" not in client.output("env; cat /proc/self/environ")


def test_client_may_set_its_language_only(client: Client) -> None:
    """Protects against a client that sets variables which load code; the client's language is accepted."""
    given = {"LC_PYSSH": "xx_YY.UTF-8", "LD_PYSSH": "evil", "BASH_ENV": "/tmp/evil"}
    result = client.run("env -0", "-o", "SendEnv=LC_PYSSH LD_PYSSH BASH_ENV", environ=given)
    env = environment(result.stdout.decode())
    assert env.get("LC_PYSSH") == "xx_YY.UTF-8"
    assert not {"LD_PYSSH", "BASH_ENV"} & set(env)


def test_identity_is_the_accounts(client: Client, account: pwd.struct_passwd) -> None:
    """Protects that uid, gid and every supplementary group are the account's, real, effective and saved."""
    groups = sorted({account.pw_gid, *os.getgrouplist(account.pw_name, account.pw_gid)})
    status = client.output("grep -E '^(Uid|Gid|Groups):' /proc/self/status")
    found = {line.split(":")[0]: [int(part) for part in line.split(":")[1].split()] for line in status.splitlines()}
    assert found["Uid"] == [account.pw_uid] * 4
    assert found["Gid"] == [account.pw_gid] * 4
    assert sorted({*found["Groups"], account.pw_gid}) == groups


def test_supplementary_group_can_be_used(client: Client, is_root: bool) -> None:
    """Protects group membership by name, as `id` and every access check see it."""
    if not is_root:
        pytest.skip("only root can make an account with a supplementary group")
    assert EXTRA_GROUP in client.output("id -Gn").split()


def test_privileges_cannot_be_regained(client: Client, is_root: bool) -> None:
    """Protects that no capability of the root process survives in a session."""
    if not is_root:
        pytest.skip("an ordinary account has none to lose")
    status = client.output("grep -E '^Cap(Inh|Prm|Eff|Amb):' /proc/self/status")
    assert {line.split()[1] for line in status.splitlines()} == {"0" * 16}


def test_umask_is_the_usual_one(client: Client) -> None:
    """Protects files made in a session from being writable for others, whatever umask the server was started with."""
    assert client.output("umask") == "0022\n"


@pytest.mark.parametrize("options", [(), ("-tt",)], ids=["pipes", "pty"])
def test_only_the_standard_descriptors_are_open(client: Client, options: tuple[str, ...]) -> None:
    """Protects all other sessions and the log from a process that inherits their descriptors."""
    # exec: the only further descriptor is that of the listing itself.
    result = client.run("exec ls /proc/self/fd", *options)
    assert result.stdout.split() == [b"0", b"1", b"2", b"3"]


def test_signals_are_at_their_defaults(client: Client) -> None:
    """Protects pipelines (SIGPIPE) and Ctrl-C from signals that the server ignores or blocks."""
    status = client.output("exec grep -E '^Sig(Blk|Ign):' /proc/self/status")
    # The C library keeps the first real-time signals for itself; a parent's changes to those can't be undone.
    ours = sum(1 << number - 1 for number in signal.valid_signals())
    assert [int(line.split()[1], 16) & ours for line in status.splitlines()] == [0, 0]


def test_limit_of_open_files_is_the_servers_own(client: Client, server: Server) -> None:
    """Protects sessions from the raised limit that only the gateway needs: some programs loop up to the limit."""
    soft = re.search(r"Max open files\s+(\d+)", client.output("cat /proc/self/limits"))
    own = subprocess.run(["prlimit", "-n", "-o", "SOFT", "--noheadings"], capture_output=True, check=True).stdout
    assert soft is not None
    assert int(soft[1]) == int(own)


def test_standard_error_is_separate(client: Client) -> None:
    """Protects scripts that separate a command's output from its messages."""
    result = client.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_pty_joins_the_outputs(client: Client) -> None:
    """Protects `ssh -t host cmd`: both outputs go to the terminal, with its line ends."""
    result = client.run("tty; echo err >&2; exit 4", "-tt")
    assert result.status == 4
    assert re.fullmatch(rb"/dev/pts/\d+\r\nerr\r\n", result.stdout)


def test_end_of_input_reaches_the_command(client: Client) -> None:
    """Protects every filter: it ends when its input does."""
    assert client.run("wc -c", input=b"12345").stdout == b"5\n"


def test_command_without_input_ends(client: Client) -> None:
    """Protects `ssh -n`: a command that reads gets the end of file at once."""
    assert client.run("cat; echo end", "-n").stdout == b"end\n"


def test_binary_data_both_ways(client: Client) -> None:
    """Protects bulk data: every byte value, in order, none lost or added, in both directions at once."""
    data = os.urandom(BULK_BYTES)
    result = client.run("cat", input=data, seconds=60)
    assert result.status == 0
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()


def test_upload_arrives_whole(client: Client) -> None:
    """Protects `tar c | ssh host tar x`: everything that was sent before the end of input arrives."""
    data = os.urandom(BULK_BYTES)
    result = client.run("sha256sum", input=data, seconds=60)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_output_just_before_the_exit_is_not_lost(client: Client) -> None:
    """Protects a process's last output: its exit must not overtake 20 MiB that wait for the network."""
    result = client.run(f"head -c {BULK_BYTES} /dev/zero; exit 3", seconds=60)
    assert (result.status, len(result.stdout)) == (3, BULK_BYTES)


def test_slow_reader_gets_everything(client: Client) -> None:
    """Protects backpressure: a client that stops reading stops the command, and loses nothing when it reads again."""
    ssh = client.popen(f"head -c {BULK_BYTES} /dev/zero | cat; echo done >&2")
    assert ssh.stdout is not None
    assert ssh.stdin is not None
    assert ssh.stderr is not None
    with ssh.stdin, ssh.stdout, ssh.stderr:
        got = len(ssh.stdout.read(1000))
        # A second in which a server without backpressure would have queued everything; there is no event to wait for.
        with pytest.raises(subprocess.TimeoutExpired):
            ssh.wait(1)
        while chunk := ssh.stdout.read(65536):
            got += len(chunk)
        assert ssh.wait(PATIENCE) == 0
    assert got == BULK_BYTES


def test_command_that_closes_its_output_goes_on(client: Client) -> None:
    """Protects half-close by the command: its output ends, its input is still read, and its real status comes."""
    result = client.run("exec >&-; n=$(wc -c); exit $((n % 256))", input=b"x" * 1_000_007, seconds=20)
    assert (result.status, result.stdout) == (1_000_007 % 256, b"")


def test_end_of_output_is_passed_on_before_the_exit(client: Client) -> None:
    """Protects the client's pipelines from waiting for a process that has closed its output and lives on."""
    ssh = client.popen("exec 1>&- 2>&-; read line; exit 5")
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    assert ssh.stderr is not None
    with ssh.stdout, ssh.stderr, ssh.stdin:
        assert ssh.stdout.read() == b""  # the EOF comes while the command still waits for its line
        assert ssh.poll() is None
        ssh.stdin.write(b"go\n")
        ssh.stdin.flush()
        assert ssh.wait(PATIENCE) == 5


def test_output_after_the_end_of_input(client: Client) -> None:
    """Protects half-close by the client: the command may write long after its input has ended."""
    result = client.run("cat >/dev/null; for i in 1 2 3 4 5; do echo $i; sleep 0.1; done", input=b"bye")
    assert (result.status, result.stdout.split()) == (0, [b"1", b"2", b"3", b"4", b"5"])


def cut_short(client: Client, command: str, *options: str, errors: bytes = b"") -> tuple[int, bytes]:
    """Run `ssh host command | head -c 2`: ssh's status, and the first output.

    If `errors` are expected, the command is sent a line when they have come.
    """
    ssh = client.popen(command, *options)
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    assert ssh.stderr is not None
    with ssh.stdin, ssh.stderr:
        with ssh.stdout:
            start = os.read(ssh.stdout.fileno(), 2)
        try:
            if errors:
                assert ssh.stderr.readline() == errors
                os.write(ssh.stdin.fileno(), b"go\n")
            return ssh.wait(PATIENCE), start
        finally:
            terminate(ssh)


def test_command_whose_output_nobody_wants_is_stopped(client: Client, server: Server) -> None:
    """Protects `ssh host yes | head -1`: it ends at once, since SIGPIPE ends the process (status 255, as sshd's)."""
    since = server.mark()
    assert cut_short(client, "exec yes") == (255, b"y\n")
    closed = server.wait_for("session.closed", since=since)
    assert (closed["reason"], closed["exit_signal"]) == ("exited", "PIPE")
    assert not processes.is_running(server.find("session.opened", since)[0]["pid"])


def test_errors_and_status_come_after_the_output_was_refused(client: Client) -> None:
    """Protects a script's errors and status after the reader of its output has left the pipeline."""
    # The client loses output that comes right before the close, since it has no other reason to keep the channel.
    assert cut_short(client, "yes; echo $? >&2; read line; exit 3", errors=b"141\n") == (3, b"y\n")


def test_status_of_a_command_that_was_stopped_over_a_shared_connection(client: Client, server: Server) -> None:
    """Protects the status over ControlMaster, where the client closes the channel first, even after its input's end."""
    master = server.directory / "cut.sock"
    shared = ("-o", f"ControlPath={master}")
    ssh = client.popen(None, "-N", "-o", "ControlMaster=yes", *shared)
    try:
        until(master.exists, what="control socket")
        assert cut_short(client, "yes; sleep 0.1; exit 3", "-n", "-o", "ControlMaster=no", *shared) == (3, b"y\n")
        assert client.run("exit 4", "-o", "ControlMaster=no", *shared).status == 4
    finally:
        terminate(ssh)
        ssh.communicate(timeout=PATIENCE)


def test_client_stops_sending_what_nobody_reads(client: Client, server: Server) -> None:
    """Protects the network from `ssh host cmd < endless` if the command has closed its input: the client is told."""
    since = server.mark()
    with Path("/dev/zero").open("rb") as endless:
        argv = client.argv("exec <&-; sleep 1; exit 4")
        assert subprocess.run(argv, stdin=endless, check=False, timeout=PATIENCE).returncode == 4
    assert server.wait_for("session.closed", since=since)["bytes_in"] < BULK_BYTES


def test_command_that_does_not_read_its_input(client: Client) -> None:
    """Protects `ssh host true < file`: unread input is no error and delays nothing."""
    assert client.run("exit 6", input=b"x" * 8_000_000, seconds=20).status == 6


def test_every_exit_status(client: Client, server: Server) -> None:
    """Protects all 256 exit statuses; one connection is used to save time."""
    master = server.directory / "status.sock"
    shared = ("-o", f"ControlPath={master}")
    ssh = client.popen(None, "-N", "-o", "ControlMaster=yes", *shared)
    try:
        until(master.exists, what="control socket")
        # Only through the master: a client without its master would log in itself, which would prove less.
        results = [client.run(f"exit {status}", "-o", "ControlMaster=no", *shared) for status in range(256)]
    finally:
        terminate(ssh)
        ssh.communicate(timeout=PATIENCE)
    wrong = {status: result for status, result in enumerate(results) if result != Result(status, b"", b"")}
    assert not wrong
    opened = [event["conn"] for event in server.find("session.opened") if event["command"].startswith("exit ")]
    assert len(set(opened[-256:])) == 1


def test_command_that_cannot_be_found(client: Client) -> None:
    """Protects the shell's own statuses: 127 for a command that is not found."""
    result = client.run("no-such-command-here")
    assert result.status == 127
    assert b"no-such-command-here" in result.stderr


def test_command_line_reaches_the_shell_as_it_is(client: Client) -> None:
    """Protects quotes, newlines, every printable character and UTF-8 in a command: the shell gets them unchanged."""
    text = "".join(map(chr, range(32, 127))).replace("'", "") + "\nä€😀"
    assert client.output(f"printf %s '{text}'") == text


def test_command_that_is_not_utf8_reaches_the_shell(client: Client) -> None:
    """Protects file names in other encodings, which may occur in a command."""
    argv = client.argv("printf %s '\udcff\udce9' | od -An -tx1")
    result = subprocess.run(argv, capture_output=True, check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert result.stdout.split() == [b"ff", b"e9"]


@pytest.mark.parametrize("length", [100_000, 131_000])
def test_long_command(client: Client, server: Server, length: int) -> None:
    """Protects generated command lines, such as a deployment script's: up to execve(2)'s 128 KiB, and in the log."""
    since = server.mark()
    assert client.output(f"printf %s {'x' * length} | wc -c").strip() == str(length)
    assert server.wait_for("session.opened", since=since)["command"].startswith("printf %s xxxx")


@pytest.mark.parametrize("size", [200_000, 261_900], ids=["kernel-limit", "message-limit"])
def test_too_long_command_fails_cleanly(client: Client, size: int) -> None:
    """Protects the connection from a command that can't run anyway (one argument over 128 KiB, see execve(2))."""

    async def try_it() -> tuple[bool, int | None]:
        async with client.connect() as connection:
            try:
                failed = (await connection.run(f"true {'x' * size}", timeout=PATIENCE)).exit_status != 0
            except asyncssh.ChannelOpenError:
                failed = True
            return failed, (await connection.run("exit 3", timeout=PATIENCE)).exit_status

    assert asyncio.run(try_it()) == (True, 3)


def test_input_is_not_waited_for_after_the_exit(client: Client) -> None:
    """Protects a person's `ssh host cmd` at a terminal: it ends with the command although the input stays open."""
    ssh = client.popen("exit 8")
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    assert ssh.stderr is not None
    with ssh.stdin, ssh.stdout, ssh.stderr:
        assert ssh.wait(PATIENCE) == 8


def test_session_need_not_wait_for_a_background_process(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects `session.linger`, with which `ssh host 'server &'` returns while the server still holds the output."""
    result = Client(make_server({"session": {"linger": "1s"}}), user_key.private).run("sleep 1000 & echo $!")
    os.kill(int(result.stdout), 9)
    assert result.status == 0


def test_command_without_streams_ends_at_once(server: Server, client: Client) -> None:
    """Protects the time that `ssh host true` takes: the server does not wait if no process holds the output."""
    since = server.mark()
    assert client.run("true").status == 0
    assert server.wait_for("session.closed", since=since)["seconds"] < 1.5

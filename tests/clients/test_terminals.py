"""Terminals: the client's terminal compared with the one that the program on the server sees."""

import pwd
import re
import termios
import time
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.client import Client
from tests.support.server import Server
from tests.support.terminal import Attributes, Terminal
from tests.support.waiting import AT_ONCE, until

IUTF8 = 0o040000
"""termios(3); Python has no name for it."""


def settle(terminal: Terminal) -> None:
    """Wait until the login shell has read its files and takes commands, and give it a prompt that is easy to find."""
    terminal.ask("PS1='ok''> '; PS2=; PROMPT_COMMAND=; bind 'set enable-bracketed-paste off'; echo re''ady", "ready")
    terminal.expect("ok> ")


def test_login_shell_begins_with_a_dash(client: Client, account: pwd.struct_passwd) -> None:
    """Protects that the shell reads its profile, as the dash in its argv[0] tells it to."""
    with client.terminal() as terminal:
        terminal.ask("echo [$0]", re.escape(f"[-{account.pw_shell.rpartition('/')[2]}]"))
        terminal.ask("pwd", re.escape(account.pw_dir))
        terminal.send("exit 3\n")
        assert terminal.wait() == 3


def test_terminal_is_a_controlling_tty_of_the_accounts(
    client: Client, account: pwd.struct_passwd, is_root: bool
) -> None:
    """Protects job control, /dev/tty and `mesg`: a real tty that the account owns, mode 0620, led by the shell."""
    with client.terminal("tty; stat -c '%u %a' $(tty); echo x >/dev/tty; ps -o sid=,pid=,tty= -p $$; cat") as terminal:
        path = Path(terminal.expect(r"(/dev/pts/\d+)\r\n")[1].decode())
        # An ordinary account's ptys have the mode that devpts was mounted with, and a group that is not tty.
        mode = "620" if is_root else "6[02]0"
        terminal.expect(rf"{account.pw_uid} {mode}\r\n")
        terminal.expect("x\r\n")
        session, pid = terminal.expect(rf"(\d+) +(\d+) +{str(path).removeprefix('/dev/')}\r\n").groups()
        assert session == pid
        assert path.owner() == account.pw_name
        terminal.send(b"\x04")
        assert terminal.wait() == 0


def test_environment_names_the_terminal(client: Client) -> None:
    """Protects SSH_TTY and TERM: the session's tty, and the client's terminal type."""
    with client.terminal("test $(tty) = $SSH_TTY && echo same; echo $TERM") as terminal:
        terminal.expect("same\r\nxterm\r\n")
        assert terminal.wait() == 0


def test_no_terminal_no_ssh_tty(client: Client) -> None:
    """Protects scripts that check for a person: without a pty there is no SSH_TTY."""
    result = client.run('tty; echo "[$SSH_TTY]"')
    assert result.stdout == b"not a tty\n[]\n"


def test_size_is_the_clients(client: Client) -> None:
    """Protects full-screen programs: the session begins with the client's rows and columns."""
    with client.terminal("stty size", size=(37, 111)) as terminal:
        terminal.expect("37 111")
        assert terminal.wait() == 0


def test_resize_reaches_the_program(client: Client) -> None:
    """Protects a resized window: the foreground program gets SIGWINCH and the new size."""
    with client.terminal("trap 'stty size; exit 5' WINCH; echo go; while :; do sleep 0.1; done") as terminal:
        terminal.expect("go")
        terminal.resize(50, 132)
        terminal.expect("50 132")
        assert terminal.wait() == 5


def test_default_modes_are_the_clients(client: Client) -> None:
    """Protects the terminal's modes: `stty -a` shows the same on both sides, except for what ssh does not send."""
    with client.terminal("stty -a") as remote:
        assert remote.wait() == 0
    with Terminal(["stty", "-a"], {"PATH": "/usr/bin:/bin"}) as local:
        assert local.wait() == 0
    assert modes(remote.screen) == modes(local.screen)


def test_changed_modes_are_the_clients(client: Client) -> None:
    """Protects people who have changed their terminal: unusual characters and flags arrive."""

    def change(attributes: Attributes) -> None:
        attributes[0] |= IUTF8 | termios.IXANY
        attributes[0] &= ~termios.IXON
        attributes[3] &= ~(termios.ECHOCTL | termios.ECHOK)
        attributes[3] |= termios.TOSTOP
        attributes[6][termios.VERASE] = b"\x08"
        attributes[6][termios.VINTR] = b"\x0b"
        attributes[6][termios.VSUSP] = b"\0"
        attributes[6][termios.VLNEXT] = b"\x10"

    with client.terminal("stty -a", attributes=change) as terminal:
        assert terminal.wait() == 0
    found = modes(terminal.screen)
    assert {"iutf8", "ixany", "-ixon", "-echoctl", "-echok", "tostop"} <= found
    assert {"erase = ^H", "intr = ^K", "susp = <undef>", "lnext = ^P"} <= found


def test_echo_switched_off_stays_off(client: Client) -> None:
    """Protects `stty -echo; ssh host`: the modes are sent as they are, including echo."""

    def no_echo(attributes: Attributes) -> None:
        attributes[3] &= ~termios.ECHO

    with client.terminal("stty -a", attributes=no_echo) as terminal:
        assert terminal.wait() == 0
    assert "-echo" in modes(terminal.screen)


def modes(screen: bytes) -> set[str]:
    """The words that `stty -a` prints, without the size and the device's own settings."""
    words: set[str] = set()
    for part in re.split(r"[;\r\n]+", screen.decode()):
        text = part.strip()
        if "=" in text:
            words.add(text)
        elif not text.startswith(("speed", "rows", "columns", "Connection", "Shared")):
            words |= set(text.split())
    # ssh does not send these control characters and modes (ttymodes.h): the pty keeps its own.
    return {word for word in words if not word.startswith(("swtch", "min =", "time =", "eol2", "discard", "line ="))}


def test_interrupt_key_interrupts(client: Client) -> None:
    """Protects Ctrl-C: the program in the foreground gets SIGINT, and the client is told."""
    with client.terminal("trap 'echo caught; exit 6' INT; echo go; while :; do sleep 0.1; done") as terminal:
        terminal.expect("go")
        terminal.send(b"\x03")
        terminal.expect("caught")
        assert terminal.wait() == 6


def test_interrupt_key_under_output(client: Client) -> None:
    """Protects a person who has started `yes`: Ctrl-C ends it at once, however much output is on its way."""
    with client.terminal() as terminal:
        settle(terminal)
        terminal.ask("yes pyssh", "(pyssh\r\n){1000}")
        began = time.monotonic()
        terminal.send(b"\x03")
        terminal.expect(r"\^C.*ok> ")
        assert time.monotonic() - began < AT_ONCE
        terminal.send("exit\n")
        terminal.wait()


def test_suspend_and_continue(client: Client) -> None:
    """Protects job control: Ctrl-Z stops the foreground job, the shell goes on, fg brings it back."""
    with client.terminal() as terminal:
        settle(terminal)
        terminal.ask("sh -c 'echo st''arted; exec sed -u s/^/got:/'", "started\r\n")
        terminal.ask("first", "got:first\r\n")
        terminal.send(b"\x1a")
        terminal.expect("Stopped.*ok> ")
        terminal.ask("fg", "exec sed .*\r\n")
        terminal.ask("second", "got:second\r\n")
        terminal.send(b"\x04")
        terminal.expect("ok> ")
        terminal.ask("exit 4", "logout")
        assert terminal.wait() == 4


def test_end_of_file_key_logs_out(client: Client) -> None:
    """Protects Ctrl-D at the prompt."""
    with client.terminal() as terminal:
        settle(terminal)
        terminal.send(b"\x04")
        terminal.expect("logout")
        terminal.wait()


def test_large_paste_arrives_whole(client: Client, scratch: Path) -> None:
    """Protects a pasted file: of 200 KB typed at once nothing is lost between the client and a slow reader."""
    data = "".join(f"line {number:06} {'x' * 50}\n" for number in range(3000))
    with client.terminal(f"stty -echo; echo go; cat > {scratch}/paste; echo end") as terminal:
        terminal.expect("go")
        terminal.send(data)
        terminal.send(b"\x04")
        terminal.expect("end")
        assert terminal.wait() == 0
    assert (scratch / "paste").read_text() == data


def test_vim_edits_and_saves(client: Client, scratch: Path) -> None:
    """Protects full-screen editing: vim takes over the screen, edits, saves and gives it back."""
    with client.terminal(f"vim -u NONE -N {scratch}/note") as terminal:
        terminal.expect(r"note")
        terminal.send("ihello from vim\x1b")
        terminal.send(":wq\r")
        assert terminal.wait() == 0
    assert (scratch / "note").read_text() == "hello from vim\n"


def test_less_pages(client: Client) -> None:
    """Protects less: it shows a page, turns it when a key is pressed, and quits."""
    with client.terminal("seq 1000 1999 | LESS= less") as terminal:
        terminal.expect("1022\r\n:")
        terminal.send(" ")
        terminal.expect("1045\r\n:")
        terminal.send("G")
        terminal.expect("1999")
        terminal.send("q")
        assert terminal.wait() == 0


def test_htop_runs_and_quits(client: Client) -> None:
    """Protects programs that draw continuously and read single keys."""
    with client.terminal("htop -d 1 --no-color") as terminal:
        terminal.expect("PID")
        terminal.send("q")
        assert terminal.wait() == 0


def test_tmux_survives_the_connection(client: Client, scratch: Path) -> None:
    """Protects work in tmux: it survives a detach and a lost connection, and can be attached again."""
    tmux = f"tmux -f /dev/null -S {scratch}/tmux"
    try:
        with client.terminal(f"{tmux} new-session -s work") as terminal:
            terminal.ask("echo fi''rst", "first")
            # Not by its key: tmux takes a prefix and a key that are typed at once for pasted text.
            terminal.ask("tmux detach", "detached")
            assert terminal.wait() == 0
        with client.terminal(f"{tmux} attach -t work") as terminal:
            terminal.expect("first")
            terminal.process.kill()  # the laptop is closed
        until(lambda: client.output(f"{tmux} list-clients -t work") == "", what="tmux without clients")
        with client.terminal(f"{tmux} attach -t work") as terminal:
            terminal.expect("first")
            terminal.ask("echo sec''ond", "second")
            terminal.ask("tmux detach", "detached")
            assert terminal.wait() == 0
    finally:
        client.run(f"{tmux} kill-server")


def test_message_of_the_day_is_shown(client: Client) -> None:
    """Protects the machine's greeting: it comes before the first prompt, with line ends for a terminal."""
    motd = b"".join(path.read_bytes() for path in map(Path, ("/run/motd.dynamic", "/etc/motd")) if path.exists())
    if not motd.strip():
        pytest.skip("this machine has no message of the day")
    with client.terminal() as terminal:
        terminal.expect(re.escape(motd.replace(b"\n", b"\r\n")))
        terminal.send("exit\n")
        terminal.wait()


@pytest.mark.alone
def test_hushlogin_silences_it(client: Client, account: pwd.struct_passwd, is_root: bool) -> None:
    """Protects accounts that want no greeting: ~/.hushlogin is respected."""
    motd = Path("/etc/motd")
    if not is_root or not motd.exists() or not motd.read_bytes().strip():
        pytest.skip("needs an account of the tests' own, and a message of the day")
    hush = Path(account.pw_dir, ".hushlogin")
    hush.touch()
    try:
        with client.terminal() as terminal:
            settle(terminal)
            terminal.send("exit\n")
            terminal.wait()
    finally:
        hush.unlink()
    assert motd.read_bytes().split(b"\n")[1].strip() not in terminal.screen


def test_command_gets_no_greeting(client: Client) -> None:
    """Protects `ssh -t host cmd`: the greeting is for login shells."""
    with client.terminal("true") as terminal:
        assert terminal.wait() == 0
    assert re.sub(rb"Connection to .* closed\.\r+\n", b"", terminal.screen) == b""


def test_terminal_is_given_back(client: Client, server: Server) -> None:
    """Protects against leaked ptys: after the session the device is gone."""
    since = server.mark()
    with client.terminal("true") as terminal:
        assert terminal.wait() == 0
    tty = Path(server.wait_for("session.opened", since=since)["tty"])
    until(lambda: not tty.exists(), what="end of the pty")


def test_lost_connection_hangs_up(client: Client, server: Server) -> None:
    """Protects the machine from programs that nobody sees any more: a lost connection sends all of them SIGHUP."""
    with client.terminal() as terminal:
        settle(terminal)
        background = int(terminal.ask("sleep 1001 & echo p=$!", r"p=(\d+)")[1])
        foreground = int(terminal.ask("sh -c 'echo p=$$; exec sleep 1002'", r"p=(\d+)")[1])
        assert processes.is_running(background)
        terminal.process.kill()
    until(lambda: not processes.is_running(background), what="end of the background job")
    until(lambda: not processes.is_running(foreground), what="end of the foreground job")

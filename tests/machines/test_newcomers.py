"""Three newcomers, each on a fresh machine, do what README and docs/install.md say."""

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.machines import INSTALL_SECONDS, Machine
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.machine

CLONE = "git clone --quiet /srv/pyssh-gateway.git"
FIRST_TIME = "-o StrictHostKeyChecking=accept-new -o LogLevel=ERROR"


def free_port() -> int:
    """A free port; machines that share our network can't use port 0, as the tests would have to find out the number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """A server that a newcomer has started, and its output."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = ""

    def wait_for(self, text: str) -> None:
        """Read the output until it has `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        raise AssertionError(f"the server has ended without {text!r}:\n{self.said}")

    @property
    def login(self) -> list[str]:
        """The words of the login command that the server prints, with options that accept the new host key."""
        (found,) = re.findall(r"^  log in +(ssh .*)$", self.said, re.MULTILINE)
        words: list[str] = shlex.split(found)
        return [words[0], *shlex.split(FIRST_TIME), *words[1:]]


@contextmanager
def serving(machine: Machine, command: str, user: str = "root") -> Iterator[Running]:
    """The server that `command` starts, once it serves; it is then interrupted as by Ctrl-C, and must exit cleanly."""
    process = machine.start(f"cd pyssh-gateway && exec {command}", user=user)
    running = Running(process)
    try:
        running.wait_for("server.started")
        yield running
        machine.run("pkill -INT --oldest --full 'pyssh-gateway serve'")
        running.said += process.communicate(timeout=PATIENCE)[0]
        assert process.returncode in {0, 130}, running.said
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def test_a_root_shell_in_a_fresh_container(layers: list[Path], repository: Path, tmp_path: Path) -> None:
    """Two commands lead to a login: an account is made and named, and its sessions find the command.

    The checkout is in root's home, which that account can't enter.
    """
    with Machine(tmp_path, layers, shared={repository: "/srv/pyssh-gateway.git"}) as machine:
        machine.run(CLONE)
        assert machine.run("stat --format=%a /root").strip() == "700"
        with serving(machine, f"make run PORT={free_port()}") as server:
            assert "started by root: the account to log in to is dev" in server.said
            assert "made the account dev" in server.said
            assert "made a demo key pair" in server.said
            login = shlex.join(server.login)
            assert machine.run(f"cd pyssh-gateway && {login} id --user --name").strip() == "dev"
            assert "is on as dev" in machine.run(f"cd pyssh-gateway && {login} pyssh-gateway why")
            # Debian's login shell sets PATH anew.
            typed = machine.run(f"cd pyssh-gateway && {login} -tt", stdin="pyssh-gateway status\nexit\n")
            assert "1 connection" in typed
        assert "Traceback" not in server.said
        assert machine.run("ls /usr/local/bin") == ""
        machine.run("userdel --remove dev && userdel pyssh-preauth && rm -r pyssh-gateway")


def test_an_ordinary_account_on_a_laptop(layers: list[Path], repository: Path, tmp_path: Path) -> None:
    """An ordinary user logs in with their own key and no rights; the server leaves files in the checkout only."""
    with Machine(tmp_path, layers, shared={repository: "/srv/pyssh-gateway.git"}) as machine:
        machine.run("useradd --create-home --shell /bin/bash amos")
        machine.run("mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519", user="amos")
        machine.run(CLONE, user="amos")
        with serving(machine, f"make run PORT={free_port()}", "amos") as server:
            assert "from file:/home/amos/.ssh/id_ed25519.pub" in server.said
            assert not re.search(
                "made|demo|will not", server.said.partition("listens on")[0].partition("Making .venv")[2]
            )
            login = shlex.join(server.login)
            assert machine.run(f"{login} id --user --name", user="amos").strip() == "amos"
            assert "is on as amos" in machine.run(f"{login} pyssh-gateway why", user="amos")
            assert "1 connection" in machine.run(f"{login} -tt", user="amos", stdin="pyssh-gateway status\nexit\n")
        assert "Traceback" not in server.said
        left = machine.run("ls -A", user="amos").split()
        assert set(left) - {".bash_history", ".bash_logout", ".bashrc", ".cache", ".profile", ".ssh"} == {
            "pyssh-gateway"
        }
        assert machine.run("ls -A .cache 2>/dev/null || true", user="amos").split() in (
            [],
            ["pip"],
            ["motd.legal-displayed"],
        )
        unlike = machine.run("find / -xdev -user amos -not -path '/home/*' -not -path '/proc/*' -not -path '/tmp/*'")
        assert unlike == ""


COMMANDS = {
    "Install": 2,
    "Port 22": 1,
    "Keep a copy of the host keys": 2,
    "Upgrade": 1,
    "Back to sshd": 2,
    "Uninstall": 1,
}
"""How many blocks of commands docs/install.md has under each heading; the tests run all of them."""


def block(heading: str, number: int = 0, kind: str = "sh") -> str:
    """The commands (or configuration) in docs/install.md under `heading`."""
    text = (ROOT / "docs" / "install.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    shown = re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(shown[number]).replace("<this repository>", "/srv/pyssh-gateway.git")


class Standing:
    """A person's open connection: one `ssh` with a shell at its other end, until they leave."""

    def __init__(self, machine: Machine, *options: str) -> None:
        self._ssh = machine.start(shlex.join([*ssh(*options), "exec bash"]), user="amos")
        self._number = 0

    def enter(self, commands: str) -> str:
        """Run `commands` on the connection; all must succeed. Returns their output."""
        self._number += 1
        mark = f"end-of-{self._number}"
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        self._ssh.stdin.write(f"(set -e\n{commands}\n) </dev/null 2>&1; echo {mark} $?\n")
        self._ssh.stdin.flush()
        said = ""
        for line in self._ssh.stdout:
            if line.startswith(mark):
                assert line.split() == [mark, "0"], f"{commands}\n{said}"
                return said
            said += line
        raise AssertionError(f"the connection was lost at {commands}\n{said}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._ssh.communicate(timeout=PATIENCE)


def ssh(*options: str) -> list[str]:
    """The words of amos's ssh to the machine itself; it requires the host key that the machine had at first."""
    strict = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=cloud"]
    return ["ssh", *strict, *options, "amos@localhost"]


def served_by(machine: Machine, *options: str) -> str:
    """Log in, and find out from the session's environment which server it belongs to."""
    look = 'test -n "$PYSSH_SESSION" && echo pyssh-gateway || echo sshd'
    return machine.run(shlex.join([*ssh(*options), look]), user="amos").strip()


def is_active(machine: Machine, unit: str) -> bool:
    """Whether systemd reports the unit as active."""
    return machine.attempt(f"systemctl is-active --quiet {unit}").returncode == 0


@pytest.fixture
def cloud(layers: list[Path], repository: Path, tmp_path: Path) -> Iterator[Machine]:
    """A cloud VM as its owner gets it: systemd, sshd on port 22, and amos with sudo and a key in authorized_keys.

    It has its own network, so the packages from the index are downloaded before it boots.
    """
    shared = {repository: "/srv/pyssh-gateway.git"}
    with Machine(tmp_path / "installed", layers, shared=shared) as machine:
        machine.run("useradd --create-home --shell /bin/bash amos")
        machine.run("echo 'amos ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/amos")
        machine.run("mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519", user="amos")
        machine.run("cp .ssh/id_ed25519.pub .ssh/authorized_keys", user="amos")
        machine.run("ssh-keygen -A && cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub >/tmp/key")
        machine.run("sed 's/^/cloud /' /tmp/key >.ssh/known_hosts", user="amos")
        machine.run(f"set -e\n{block('Install')}", user="amos", seconds=INSTALL_SECONDS)
        fetch = "/opt/pyssh-gateway/bin/pip download --quiet --dest /srv/wheels"
        locks = "--requirement requirements/runtime.txt --requirement requirements/build.txt"
        machine.run(f"cd /home/amos/pyssh-gateway && {fetch} {locks}", seconds=INSTALL_SECONDS)
        machine.run("printf '[global]\\nno-index = true\\nfind-links = /srv/wheels\\n' >/etc/pip.conf")
    installed = [machine.changed, *layers]
    booted = Machine(
        tmp_path / "booted",
        installed,
        own_network=True,
        init=["/lib/systemd/systemd", "--log-target=console"],
        environ={"container": "other"},
        shared=shared,
    )
    with booted as machine:
        until(lambda: is_active(machine, "ssh.service"), what="sshd")
        try:
            yield machine
        finally:
            sys.stdout.write(machine.run("journalctl --no-pager --output=cat --unit=pyssh-gateway --unit='run-*'"))


def test_every_command_of_the_page_is_run() -> None:
    """A block of commands that is added to docs/install.md must also be run by the test, in the order of the page."""
    page = (ROOT / "docs" / "install.md").read_text()
    sections = [section.partition("\n") for section in page.split("\n## ")[1:]]
    assert {heading: text.count("\n```sh\n") for heading, _, text in sections} == COMMANDS


def test_a_cloud_machine_moves_over_and_back(cloud: Machine) -> None:
    """docs/install.md works from its first line to its last, over connections that stay open to the end.

    The machine keeps its host key, and on each port the server answers that the page names.
    """
    with ExitStack() as connections:
        first = connections.enter_context(Standing(cloud))
        configuration = block("Install", kind="toml")
        first.enter(f"sudo tee /etc/pyssh-gateway/config.toml <<'EOF'\n{configuration}EOF")
        first.enter(block("Install", 1))
        assert served_by(cloud, "-p", "2222") == "pyssh-gateway"
        assert served_by(cloud) == "sshd"

        # To port 22. A server with connections on port 2222 is no obstacle; here it stops soon after they end.
        first.enter("sudo sed -i 's/timeout = .*/timeout = \"1s\"/' /etc/pyssh-gateway/config.toml")
        first.enter(block("Port 22"))
        assert first.enter("id --user --name").strip() == "amos"
        assert served_by(cloud) == "pyssh-gateway"
        until(lambda: not is_active(cloud, "pyssh-gateway.service"), what="idle stop")
        assert served_by(cloud) == "pyssh-gateway"  # this connection starts it again
        assert not is_active(cloud, "ssh.service")

        for number in range(2):
            first.enter(block("Keep a copy of the host keys", number))
        first.enter(block("Upgrade"))
        assert served_by(cloud) == "pyssh-gateway"
        first.enter("sudo sed -i 's/timeout = .*/timeout = \"off\"/' /etc/pyssh-gateway/config.toml")
        until(lambda: not is_active(cloud, "pyssh-gateway.service"), what="idle stop")

        # Back to sshd, while a server runs that does not stop.
        on_gateway = connections.enter_context(Standing(cloud))
        on_gateway.enter(block("Back to sshd"))
        second = connections.enter_context(Standing(cloud, "-p", "2022"))
        second.enter(block("Back to sshd", 1))
        assert served_by(cloud) == "sshd"
        second.enter("sudo sh -c 'kill $(cat /run/sshd-2022.pid)'")
        assert second.enter("id --user --name").strip() == "amos"

        second.enter(block("Uninstall"))
        assert cloud.run("ls /opt /usr/local/bin") == "/opt:\n\n/usr/local/bin:\n"
        assert served_by(cloud) == "sshd"
        for connection in (first, second):
            assert connection.enter("id --user --name").strip() == "amos"

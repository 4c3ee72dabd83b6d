"""The image: built from the Dockerfile, and run like a container, twice with one volume."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import KeyPair
from tests.support.client import client_environment
from tests.support.github import FakeGitHub, keys
from tests.support.machines import INSTALL_SECONDS, Machine
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.machine

Buildah = Callable[..., subprocess.CompletedProcess[str]]


class Image(NamedTuple):
    """The image's file system, and the command and environment of its containers."""

    root: Path
    command: list[str]
    environ: dict[str, str]


@pytest.fixture(scope="module")
def buildah(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Runs buildah, which builds without a daemon, with its own storage and `localhost/debian` in it."""
    if shutil.which("buildah") is None:
        pytest.skip("THE IMAGE WAS NOT BUILT: there is no buildah on this machine")
    place = tmp_path_factory.mktemp("buildah")

    def run(command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        storage = ["--storage-driver", "vfs", "--root", f"{place}/root", "--runroot", f"{place}/run"]
        result = subprocess.run(
            ["buildah", *storage, command, *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        assert result.returncode == 0 or not check, f"{result.args}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        return result

    container = run("from", "scratch").stdout.strip()
    run("copy", "--quiet", container, str(debian), "/")
    run("commit", "--quiet", "--rm", container, "localhost/debian")
    yield run
    run("umount", "--all", check=False)
    shutil.rmtree(place, ignore_errors=True)


def build(buildah: Buildah, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Do what `docker build` with `arguments` does, as far as this machine can."""
    how = ("--isolation", "chroot", "--network", "host", "--build-arg", "BASE=localhost/debian")
    return buildah("bud", *how, *arguments, "--tag", "localhost/dev-box", ".", check=check)


@pytest.fixture(scope="module")
def image(buildah: Buildah) -> Image:
    """The image of docs/platforms.md, for the GitHub account `example`."""
    build(buildah, "--build-arg", "GITHUB=example")
    config = json.loads(buildah("inspect", "--type", "image", "localhost/dev-box").stdout)["OCIv1"]["config"]
    root = buildah("mount", buildah("from", "localhost/dev-box").stdout.strip()).stdout.strip()
    return Image(Path(root), config["Cmd"], dict(variable.split("=", 1) for variable in config["Env"]))


class Container:
    """One container of the image: it has `volume` at /data, and uses `github` instead of GitHub."""

    def __init__(self, directory: Path, image: Image, volume: Path, github: FakeGitHub, idle: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.volume = volume
        self.machine = Machine(
            directory,
            [image.root],
            init=image.command,
            environ=image.environ
            | {
                "PYSSH_GATEWAY_LISTEN__PORT": str(self.port),
                "PYSSH_GATEWAY_KEYS__GITHUB_URL": github.url,
                "PYSSH_GATEWAY_IDLE__TIMEOUT": idle,
            },
            shared={volume: "/data"},
        )

    def ssh(self, command: str, key: Path) -> str:
        """The output of `command` in a session of `dev`; the client knows the host key from the volume."""
        until(lambda: "server.started" in self.machine.said, what="server")
        known = self.volume / "known_hosts"
        host_key = (self.volume / "keys" / "ssh_host_ed25519_key.pub").read_text().split()[:2]
        known.write_text(f"container {' '.join(host_key)}\n")
        options = {
            "UserKnownHostsFile": known,
            "HostKeyAlias": "container",
            "IdentityFile": key,
            "IdentityAgent": "none",
            "BatchMode": "yes",
            "Port": self.port,
        }
        result = subprocess.run(
            ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in options.items()), "dev@127.0.0.1", command],
            capture_output=True,
            text=True,
            env=client_environment(),
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 0, f"{result.stderr}\n{self.machine.said}"
        return result.stdout


def test_work_at_home_is_there_in_the_next_container(
    image: Image, github: FakeGitHub, user_key: KeyPair, tmp_path: Path
) -> None:
    """One volume keeps home and host key from one container to the next; the home has the files of the image's home.

    `docker stop` sends SIGTERM to the first process, and an idle server ends by itself: both exit with code 0.
    """
    github.script("example", keys(user_key.public.read_text()))
    volume = tmp_path / "volume"
    volume.mkdir()
    first = Container(tmp_path / "first", image, volume, github, "off")
    with first.machine as machine:
        assert first.ssh("echo kept >work; pwd; sudo -n id --user", user_key.private) == "/data/home/dev\n0\n"
        assert "dev" in first.ssh("pyssh-gateway why", user_key.private)
        assert ".zshrc" in first.ssh("ls -A", user_key.private).split()
        assert "starts again" not in first.ssh("cat /etc/motd", user_key.private)
        host_key = (volume / "keys" / "ssh_host_ed25519_key").read_bytes()
        machine.send(signal.SIGTERM)
        assert machine.wait() == 0, machine.said
    second = Container(tmp_path / "second", image, volume, github, "1s")
    with second.machine as machine:
        assert second.ssh("cat work; pwd", user_key.private) == "kept\n/data/home/dev\n"
        assert (volume / "keys" / "ssh_host_ed25519_key").read_bytes() == host_key
        assert machine.wait() == 0, machine.said
    assert "Traceback" not in first.machine.said + second.machine.said


def test_a_build_for_nobody_says_what_is_missing(buildah: Buildah) -> None:
    """Without a GitHub login the build fails, and names the argument that is missing."""
    result = build(buildah, check=False)
    assert result.returncode != 0
    assert "pass --build-arg GITHUB=<your GitHub login>" in result.stderr + result.stdout

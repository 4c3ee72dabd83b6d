"""A Debian that is made for each run, and the programs that newcomers install on it. `make machines` runs these tests.

They take minutes, and need a machine that can make others, so they are no part of `make test`.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines import INSTALL_SECONDS, CannotMake, Machine, look_whether_machines_can_be_made, make_debian
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

TOOLS = (
    "ca-certificates dbus git make openssh-client openssh-server procps python3 python3-venv sudo systemd systemd-sysv"
)
"""The programs of a newcomer's machine: the three that README asks for, and those that a cloud machine comes with."""

NO_SERVICES = "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d"
"""Debian's way to keep a package from starting its daemon."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests of machines unless they were selected (`make machines`), with the reason."""
    if "machine" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("machine") is not None:
            item.add_marker(pytest.mark.skip(reason="takes minutes: make machines runs it"))


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root file system of the Debian that the image is based on; removed at the end, which pytest would not do."""
    directory = tmp_path_factory.mktemp("debian")
    suite = re.findall(r"^ARG BASE=debian:(\w+)-slim$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
    try:
        look_whether_machines_can_be_made(tmp_path_factory.mktemp("probe"))
        make_debian(directory, suite)
    except CannotMake as error:
        pytest.skip(f"NOT TRIED ON A FRESH MACHINE: {error}")
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def layers(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """A Debian that has `TOOLS`, as the layers of a machine."""
    with Machine(tmp_path_factory.mktemp("tools"), [debian]) as machine:
        machine.run(NO_SERVICES)
        machine.run("apt-get --quiet=2 update", seconds=INSTALL_SECONDS)
        install = "apt-get --quiet=2 --yes --no-install-recommends install"
        machine.run(f"DEBIAN_FRONTEND=noninteractive {install} {TOOLS}", seconds=INSTALL_SECONDS)
        machine.run("rm /usr/sbin/policy-rc.d && git config --system safe.directory '*'")
    machine.changed.chmod(0o755)
    yield [machine.changed, debian]
    shutil.rmtree(machine.directory)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository that a newcomer clones: the commit that is checked out here."""
    path = tmp_path_factory.mktemp("repository") / "pyssh-gateway.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(path)], check=True, timeout=PATIENCE)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True, timeout=PATIENCE).strip()
    subprocess.run(["git", "update-ref", "refs/heads/newest", head], cwd=path, check=True, timeout=PATIENCE)
    subprocess.run(["git", "symbolic-ref", "HEAD", "refs/heads/newest"], cwd=path, check=True, timeout=PATIENCE)
    return path

"""The client matrix: every client on this machine, with each of its features, against one server."""

import pwd
from pathlib import Path

import pytest

from tests.clients import matrix_libraries, matrix_node, matrix_openssh, matrix_programs
from tests.conftest import KeyPair
from tests.support.matrix import Driver, World
from tests.support.server import Server

DRIVERS: tuple[type[Driver], ...] = (
    matrix_openssh.Ssh,
    matrix_openssh.Sftp,
    matrix_openssh.Scp,
    matrix_openssh.LegacyScp,
    matrix_openssh.Rsync,
    matrix_openssh.Git,
    matrix_openssh.Autossh,
    matrix_openssh.Sshfs,
    matrix_openssh.Mosh,
    matrix_programs.Plink,
    matrix_programs.Psftp,
    matrix_programs.Pscp,
    matrix_programs.LegacyPscp,
    matrix_programs.Dbclient,
    matrix_programs.Lftp,
    matrix_programs.LftpFish,
    matrix_programs.Curl,
    matrix_programs.CurlScp,
    matrix_libraries.Paramiko,
    matrix_libraries.Asyncssh,
    matrix_node.NodeSsh2,
    matrix_programs.Ansible,
    matrix_programs.AnsiblePipelining,
)


CELLS = [
    pytest.param(driver, feature, id=f"{driver.name}-{feature}") for driver in DRIVERS for feature in driver.features()
]
"""The tests of the matrix: each client with each of its features."""


@pytest.fixture
def world(server: Server, user_key: KeyPair, account: pwd.struct_passwd, tmp_path: Path, scratch: Path) -> World:
    """The environment of the clients."""
    return World(server, user_key.private, account, home=tmp_path, scratch=scratch)


@pytest.mark.slow
@pytest.mark.parametrize(("driver", "feature"), CELLS)
def test_client(driver: type[Driver], feature: str, server: Server, world: World) -> None:
    """Protects each feature of a client that works with sshd: it works with us, too."""
    if reason := driver.absence():
        pytest.skip(reason)
    getattr(driver(world), feature)()

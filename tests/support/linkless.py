"""A real file system without hard links: sshfs, whose link(2) fails with EPERM as on SMB shares and vfat."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE, until

SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


@contextmanager
def without_links(place: Path) -> Iterator[Path]:
    """A directory below `place` without hard links; skips the test if none can be mounted."""
    server = next(filter(os.path.exists, SFTP_SERVERS), "")
    if os.geteuid() != 0 or not server or shutil.which("sshfs") is None or not Path("/dev/fuse").exists():
        pytest.skip("a file system without links takes root, sshfs, an SFTP server of OpenSSH's and /dev/fuse")
    real, mount = place / "real", place / "mount"
    real.mkdir()
    mount.mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        serving = subprocess.Popen([server], stdin=ours.fileno(), stdout=ours.fileno())
        options = ["-f", "-o", "passive,disable_hardlink,allow_other,default_permissions"]
        command = ["sshfs", *options, f":{real}", str(mount)]
        mounting = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno())
    try:
        until(lambda: mount.is_mount() or mounting.poll() is not None, what="mount")
        if not mount.is_mount():
            pytest.skip("sshfs can't mount here")
        yield mount
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=False, timeout=PATIENCE)
        for process in (mounting, serving):
            process.wait(PATIENCE)

"""The far side of a legacy copy, as the spawner's child runs it, for the real client (`scp -S`) or without a client."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

_FAR_SIDE = """#!{python}
import os, resource, sys
sys.path.insert(0, {root!r})
from pyssh_gateway.as_user.scp.server import parse, serve

class NoImports:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(name + " was imported after the process had become the user")

# ssh's last argument is the command; its environment is not the server's.
argv = parse(os.fsencode(sys.argv[-1]))
os.chdir({home!r})
os.umask(0o022)
if {uid}:
    os.setgroups([])
    os.setresgid({uid}, {uid}, {uid})
    os.setresuid({uid}, {uid}, {uid})
os.environ.clear()
sys.path.clear()
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, ((used + {memory}) * 1024,) * 2)
if {file_size}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({file_size}, {file_size}))
sys.meta_path.insert(0, NoImports())
status = 127 if argv is None else serve(argv, 0, 1, 2)
del sys.meta_path[0]
sys.exit(status)
"""
"""As in the spawner's child: all imports first, then the change of user; after that no imports, no environment.

The limit on memory makes every test show that a copy stays within it.
"""

MEMORY_KIB = 4096
"""The memory that a copy may use, on top of the process that it was forked from."""


def far_side(directory: Path, home: Path, *, uid: int = 0, file_size: int = 0, memory: int = MEMORY_KIB) -> Path:
    """A program in `directory` that stands in for ssh, with `home` as the account's home on the far side."""
    path = directory / "far-side"
    text = _FAR_SIDE.format(
        python=sys.executable, root=str(ROOT), home=str(home), uid=uid, memory=memory, file_size=file_size
    )
    path.write_text(text)
    path.chmod(0o755)
    return path


def scp(program: Path, *arguments: str | bytes | Path) -> subprocess.CompletedProcess[bytes]:
    """Run `scp -O` with `program` instead of ssh."""
    command = ["scp", "-O", "-S", program, *arguments]
    return subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE, umask=0o022)


def talk(program: Path, command: bytes, sent: bytes) -> tuple[int, bytes, bytes]:
    """Start the far side with `command`, and send it only `sent`; its exit status, its output and its errors."""
    done = subprocess.run(
        [program, os.fsdecode(command)], check=False, input=sent, capture_output=True, timeout=PATIENCE
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr

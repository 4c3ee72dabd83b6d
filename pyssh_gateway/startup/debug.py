"""`serve --debug`: a second server beside the one that is in use, to watch a login fail.

It has the configuration of that one and a log of its own, on the terminal. It changes nothing that the other one has:
its state is in a directory that goes with it, it makes nothing at boot, and stops no machine. sshd's `-d` is the model.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from shutil import copy2, rmtree
from tempfile import mkdtemp

from pyssh_gateway.config import source
from pyssh_gateway.startup.listening import say
from pyssh_gateway.startup.serve import Options, serve

OVERRIDES: dict[str, object] = {
    "control": "off",
    "metrics.listen": "off",
    "log.format": "human",
    "idle.timeout": "off",
    "stop.action": "exit",
    "stop.hooks": [],
    "boot.homes": "",
    "boot.link": [],
    "boot.directory": [],
    "boot.account": [],
    "boot.service": [],
}
"""What the configuration says of the machine, and what two servers can't share."""


def serve_debug(options: Options, environ: MutableMapping[str, str]) -> int:
    """Serve as `options` say, until it is interrupted. Raises as `serve` does."""
    configured = source.read(options.config, environ, {}).values.get("keys_dir", "keys")
    directory = Path(mkdtemp(prefix="pyssh-gateway-debug-"))
    try:
        directory.chmod(0o711)  # the account of the network side goes through to what is made for it
        copy_host_keys(Path(str(configured)), directory / "keys")
        state = {"keys_dir": str(directory / "keys"), "audit_dir": str(directory / "audit")}
        options.overrides = OVERRIDES | state
        say("debug: beside the server that is in use, with copies of its host keys; Ctrl-C ends this one")
        return serve(options, environ)
    finally:
        rmtree(directory, ignore_errors=True)


def copy_host_keys(keys_dir: Path, place: Path) -> None:
    """Copy what is in `keys_dir` of host keys to the new directory `place`: clients know the machine by them."""
    place.mkdir(mode=0o755)
    for path in sorted(keys_dir.glob("ssh_host_*")):
        copy2(path, place / path.name)
        os.chown(place / path.name, os.geteuid(), os.getegid())

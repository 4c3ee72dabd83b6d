"""A log written by hand: events at times of one's choice, as the lines that the server would write."""

import msgspec

from pyssh_gateway.core.timestamps import timestamp
from pyssh_gateway.events import (
    AnyEvent,
    BackgroundSeen,
    BackgroundWork,
    ClientQuiet,
    ClientUse,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
    ServerStarted,
    ServerStopped,
    ServerStopping,
    SessionOpened,
)

MONDAY = 1_767_571_200.0
"""A midnight in UTC; times in these logs are seconds since then."""


def identity(person: str) -> Identity:
    """A person with a key of their own."""
    return Identity(f"file:{person}", None, f"SHA256:{person}")


class WrittenLog:
    """Lines in the order in which they were written."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._seq = 0

    @property
    def seq(self) -> int:
        """The number of the last line."""
        return self._seq

    def skip(self, numbers: int) -> int:
        """Go on with other numbers; returns that of the last line so far."""
        before = self._seq
        self._seq += numbers
        return before

    def write(self, at: float, event: AnyEvent) -> None:
        """Write an event that happens `at` seconds after midnight."""
        self._seq += 1
        fields = {"ts": timestamp(MONDAY + at), "seq": self._seq, "event": event.__struct_config__.tag}
        self.lines.append(msgspec.json.encode(fields | msgspec.structs.asdict(event)) + b"\n")

    def start(self, at: float, *, timeout: float = 60.0) -> None:
        """The server starts."""
        self.write(
            at,
            ServerStarted(
                version="",
                address="",
                port=0,
                pid=1,
                generation=1,
                host_keys=(),
                users=("dev",),
                idle_timeout=timeout,
            ),
        )

    def stop(
        self,
        at: float,
        conn: str = "",
        *uses: tuple[int, int],
        reason: str = "idle",
        action: str = "exit",
        person: str = "amos",
    ) -> None:
        """The server stops; if `conn` is on, it is cut off by that."""
        self.write(at, ServerStopping(reason=reason, action=action))
        if uses:
            self.use(at, conn, *uses, person=person)
        if conn:
            self.go(at, conn, goodbye=False)
        if action != "suspend":
            self.write(at, ServerStopped(reason=reason, exit_code=0))

    def come(
        self, at: float, conn: str, person: str = "", peer: str = "203.0.113.9", *, probation: float | None = None
    ) -> None:
        """A connection comes; a person logs in on it, perhaps on probation, or nobody does."""
        self.write(at, ConnectionOpened(conn=conn, peer=peer, peer_port=1))
        if person:
            self.write(
                at,
                ConnectionAuthenticated(
                    conn=conn,
                    peer=peer,
                    user="dev",
                    fingerprint="",
                    source="",
                    client="",
                    cipher="",
                    seconds=0.0,
                    identity=identity(person),
                    probation=probation,
                ),
            )

    def go(
        self,
        at: float,
        conn: str,
        *uses: tuple[int, int],
        person: str = "amos",
        user: str = "dev",
        goodbye: bool = True,
    ) -> None:
        """The connection ends, and the spans of its use are written down."""
        self.write(
            at,
            ConnectionClosed(
                conn=conn,
                peer="203.0.113.9",
                user=user,
                reason="",
                seconds=0.0,
                bytes_in=0,
                bytes_out=0,
                goodbye=goodbye,
            ),
        )
        if uses:
            self.use(at, conn, *uses, person=person)

    def use(self, at: float, conn: str, *uses: tuple[int, int], person: str = "amos") -> None:
        """Spans of use are written down, in seconds since the connection was opened."""
        self.write(at, ClientUse(conn=conn, user="dev", spans=uses, identity=identity(person)))

    def quiet(self, at: float, conn: str, seconds: float) -> None:
        """The client has not been used for so long."""
        self.write(at, ClientQuiet(conn=conn, user="dev", seconds=seconds))

    def work(self, at: float, seconds: float) -> None:
        """Work in the background holds the machine for so long; 0: not any more."""
        self.write(at, BackgroundWork(seconds=seconds, what="make of dev"))

    def seen(self, at: float, *spans: tuple[int, int]) -> None:
        """Work has been seen while nobody used the clients; each span is so many seconds ago."""
        self.write(at, BackgroundSeen(spans=spans))

    def terminal(self, at: float, conn: str) -> None:
        """A shell in a terminal begins."""
        opened = SessionOpened(
            conn=conn, session=f"{conn}.1", user="dev", kind="shell", command="", tty="/dev/pts/0", term="", pid=1
        )
        self.write(at, opened)

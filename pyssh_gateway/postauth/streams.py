"""The descriptors of a session's process: its input, its outputs, and its terminal if it has one."""

import asyncio
import os
import termios
from collections.abc import Callable
from contextlib import suppress

import asyncssh

from pyssh_gateway.postauth.pump import Flow, Sink, Source
from pyssh_gateway.system.descriptors import two_more
from pyssh_gateway.system.pty_size import set_size

PROCESS_STREAMS = 3
"""At most this many of the spawner's descriptors are the process's; one more carries a built-in server's events."""

STDERR = asyncssh.EXTENDED_DATA_STDERR


class Streams:
    """Owns a pty's master, or the pipes of standard input, output and error, until it is closed.

    `deliver` gets output and its SSH data type, `at_end` is called when an output has ended, `on_room` when input that
    had to wait has been written, `on_refused` when the process has closed its input. `hold` gets how many bytes of
    input more (or fewer, if negative) wait.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptors: list[int],
        *,
        is_pty: bool,
        packet_size: int,
        deliver: Callable[[bytes, int | None], None],
        at_end: Callable[[], None],
        on_room: Callable[[], None],
        on_refused: Callable[[], None],
        hold: Callable[[int], None],
    ) -> None:
        """Take `descriptors` over. If no descriptors are left, raise `OSError` and leave them to the caller."""
        self.is_pty = is_pty
        self._master: int | None = None
        if is_pty:
            # The source closes its descriptor when no process has the terminal open any more; `_master` keeps the pty
            # until `close`.
            writing, self._master = two_more(descriptors[0])
            outputs: list[tuple[int, int | None]] = [(descriptors[0], None)]
        else:
            writing, stdout, stderr = descriptors
            outputs = [(stdout, None), (stderr, STDERR)]
        self._sink = Sink(loop, writing, on_room, on_refused=on_refused, hold=hold)
        self._sources = [
            Source(
                loop,
                descriptor,
                deliver=_as(datatype, deliver),
                at_end=at_end,
                size=packet_size,
                is_pty=is_pty,
            )
            for descriptor, datatype in outputs
        ]

    @property
    def ended(self) -> bool:
        """Whether all output has been read to its end."""
        return all(source.ended for source in self._sources)

    def set_reading(self, reading: bool) -> None:
        """Start or stop reading the outputs."""
        for source in self._sources:
            source.set_reading(reading)

    def read_all(self, most: int, flow: Flow) -> int:
        """Read available output without waiting, until `flow` is closed or `most` bytes were read; returns how many."""
        size = 0
        while size < most and flow.is_open and (more := self._read_now()):
            size += more
        return size

    def _read_now(self) -> int:
        return next((size for source in self._sources if (size := source.read_now())), 0)

    def close_output(self) -> None:
        """Stop reading standard output: its writers get SIGPIPE. Standard error goes on.

        A terminal stays open, so its writers wait until it is hung up; sshd has a second descriptor of it, too.
        """
        self._sources[0].close()

    def write(self, data: bytes) -> bool:
        """Input for the process; False if some of it has to wait, and the caller should pause until `on_room`."""
        return self._sink.write(data)

    def end_input(self) -> None:
        """No more input will come."""
        self._sink.end()

    def refuse_input(self) -> None:
        """Close the input and discard what waits, even if some process still holds its other end."""
        self._sink.refuse()

    def leave_outputs(self) -> list[int]:
        """Stop reading the outputs of a process without a terminal; returns those still open, for the caller to own."""
        return [descriptor for source in self._sources if (descriptor := source.leave()) is not None]

    def resize(self, columns: int, rows: int, width: int, height: int) -> None:
        """The client's terminal window has a new size."""
        if self._master is not None:
            with suppress(OSError):
                set_size(self._master, columns, rows, width, height)

    @property
    def takes_lines(self) -> bool:
        """Whether programs get typed input by the line (ICANON of termios(3)); the master shows the slave's modes."""
        return self._has_mode(termios.ICANON)

    @property
    def shows_input(self) -> bool:
        """Whether there is a terminal that echoes what is typed (ECHO of termios(3)): no password is asked for."""
        return self._has_mode(termios.ECHO)

    def _has_mode(self, mode: int) -> bool:
        if self._master is None:
            return False
        try:
            return bool(termios.tcgetattr(self._master)[3] & mode)
        except termios.error:
            return False

    def send_break(self) -> bool:
        """Send a break on the terminal; its length means nothing to a pty. False without a terminal."""
        if self._master is None:
            return False
        with suppress(termios.error):
            termios.tcsendbreak(self._master, 0)
        return True

    def close(self, input_seconds: float) -> None:
        """Close everything: the kernel hangs up a pty's processes, others see their pipes close.

        The process may read waiting input for `input_seconds` more.
        """
        for source in self._sources:
            source.close()
        self._sink.end(input_seconds)
        if self._master is not None:
            os.close(self._master)
            self._master = None


def _as(datatype: int | None, deliver: Callable[[bytes, int | None], None]) -> Callable[[bytes], None]:
    return lambda data: deliver(data, datatype)

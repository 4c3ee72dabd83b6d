"""One recording: a file in the making, from the entries that a postauth process sends.

What was written is in the file after a second at the latest (`flush`), whatever happens to this process: each time the
compressed data ends with a block that can be read. A compressor holds memory; one that has had nothing to do for long
ends its frame, and the next data begins another one in the same file (RFC 8878 section 3.1).
"""

import os
from collections.abc import Callable

import msgspec

from pyssh_gateway.audit.zstd import CompressionParameter, ZstdCompressor
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.events import SESSION_ENDED
from pyssh_gateway.ipc.recorder import Begin, Entry, count_in, terminal_size_in

OPTIONS: dict[int, int] = {
    CompressionParameter.compression_level: 1,
    CompressionParameter.window_log: 17,  # 128 KiB: a tenth of a megabyte for each recording, and not half of one
    CompressionParameter.checksum_flag: 1,  # a damaged file is found to be one, and not read as another text
}
"""zstd as fast as it gets without losing much: text of a terminal becomes a tenth."""

REST_SECONDS = 60.0
"""A compressor that has had nothing to do for so long is put away."""

SIZE_REACHED = "audit.record_session_size is reached"
TIME_REACHED = "audit.record_session_time is reached"
ROOM_TAKEN = "audit.record_keep_size is reached"


class Times(msgspec.Struct, frozen=True):
    """The clocks: `steady` never goes back, `wall` is Unix time."""

    steady: Callable[[], float]
    wall: Callable[[], float]


class Recording:
    """One file. `over` is set to the reason when it has ended; then there is nothing to be done any more.

    Nothing here raises: a file that can't be written to is the end of its recording.
    """

    def __init__(self, begin: Begin, file: int, bounds: Bounds, times: Times) -> None:
        self._file = file
        self._bounds = bounds
        self._now = times.steady
        self._began = times.steady()
        self._encoder = Encoder()
        self._compressor: ZstdCompressor | None = None
        self._is_flushed = True
        self._used_at = self._began
        self.over = ""
        self.recorded = 0
        self.written = 0
        terminal = Header(
            cols=begin.columns,
            rows=begin.rows,
            term=begin.term.decode("utf-8", "replace"),
            timestamp=int(times.wall()),
            command=begin.command.decode("utf-8", "replace"),
            title=begin.session,
        )
        self._write(self._encoder.header(terminal))
        if begin.part > 1:
            again = "the recorder was started again: what was shown just before is missing"
            self._write(self._encoder.marker(0.0, again))

    @property
    def _seconds(self) -> float:
        return self._now() - self._began

    def take(self, entry: Entry, data: bytes) -> None:
        """Record an entry. Raises ProtocolError if its data is not what it should be."""
        if self.over:
            return
        # The sender's clock tells two entries of a packet apart, but nothing of it can be later than now.
        at = min(entry.at / 1e6, self._seconds)
        if self._seconds >= self._bounds.session_seconds:
            self.cut(TIME_REACHED)
            return
        encoder = self._encoder
        match entry.what:
            case "output" | "errors" | "input":
                left = self._bounds.session_bytes - self.recorded
                is_last, data = len(data) > left, data[:left]
                self.recorded += len(data)
                if entry.what == "input":
                    self._write(encoder.input(at, data))
                else:
                    self._write(encoder.output(at, data, stream=entry.what))
                if is_last:
                    self.cut(SIZE_REACHED)
                    return
            case "resize":
                self._write(encoder.resize(at, *terminal_size_in(data)))
            case "missing":
                self._write(encoder.missing(at, count_in(data)))
            case "exit":
                self._write(encoder.exit(at, count_in(data)))
            case "end":
                self.end(SESSION_ENDED)
        if self.written >= self._bounds.session_bytes:  # by thousands of resizes, for example
            self.cut(SIZE_REACHED)

    def flush(self) -> None:
        """Have everything in the file that was written so far."""
        compressor = self._compressor
        if self.over or compressor is None:
            return
        if not self._is_flushed:
            self._to_file(compressor.flush(ZstdCompressor.FLUSH_BLOCK))
            self._is_flushed = True
        elif self._now() - self._used_at >= REST_SECONDS:
            self._end_frame()

    @property
    def is_at_rest(self) -> bool:
        """Whether `flush` has nothing to do until there is something new."""
        return bool(self.over) or self._compressor is None

    def end(self, reason: str, comment: str = "") -> None:
        """Close the file; a `comment` in it says why, if there is more to be said."""
        if self.over:
            return
        self._write(self._encoder.flush(self._seconds))
        if comment:
            self._write(self._encoder.comment(comment))
        self._end_frame()
        self._close(reason)

    def cut(self, reason: str) -> None:
        """Close the file before the end of its session, with a marker that says why."""
        if self.over:
            return
        self._write(self._encoder.flush(self._seconds))
        self._write(self._encoder.marker(self._seconds, f"the recording ends here: {reason}"))
        self.end(reason)

    def _write(self, text: bytes) -> None:
        if self.over or not text:
            return
        if self._compressor is None:
            self._compressor = ZstdCompressor(options=OPTIONS)
        self._is_flushed = False
        self._used_at = self._now()
        self._to_file(self._compressor.compress(text))

    def _end_frame(self) -> None:
        if self._compressor is not None:
            rest = self._compressor.flush()
            self._compressor = None
            self._to_file(rest)

    def _to_file(self, data: bytes) -> None:
        left = memoryview(data)
        while left and not self.over:
            try:
                size = os.write(self._file, left)
            except OSError as error:  # the disk is full, or gone
                self._close(error.strerror or str(error))
                return
            self.written += size
            left = left[size:]

    def _close(self, reason: str) -> None:
        if not self.over:
            self.over = reason
            self._compressor = None
            os.close(self._file)

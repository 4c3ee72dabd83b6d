"""The lines of a file that may be damaged: as far as they can be read."""

from collections.abc import Callable, Iterator

from pyssh_gateway.audit.segments import Line, NoLog, Segment, lines


def readable_lines(segment: Segment, damaged: Callable[[Segment], None]) -> Iterator[Line]:
    """The lines of a file, up to a place where its data can't be read: then `damaged` is called. Raises NoLog.

    A compressed file has nothing readable behind such a place, since each byte depends on those before it.
    """
    try:
        yield from lines(segment)
    except NoLog:
        raise
    except (EOFError, OSError):
        damaged(segment)
    except Exception as error:
        from pyssh_gateway.audit.zstd import ZstdError  # late: only for a damaged compressed file

        if not isinstance(error, ZstdError):
            raise
        damaged(segment)

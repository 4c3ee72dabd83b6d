"""postauth.files.file_events: a flood of events does not block others, with a real pipe."""

import asyncio
import fcntl
import os

from pyssh_gateway.core.launch import PIPE_BYTES
from pyssh_gateway.ipc.file_events import FileRemoved, encode
from pyssh_gateway.postauth.files.file_events import MAX_LAST_READS, TURN_BYTES, FileEvents
from tests.support.waiting import PATIENCE


def test_a_flood_of_events_is_told_a_few_at_a_time() -> None:
    """Protects other work: a turn of the loop handles a part of the events, so does the end, and none is lost."""

    async def scenario() -> None:
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(writer, False)
        frame = encode(FileRemoved(path=b"/x", outcome="ok"))
        count = PIPE_BYTES // len(frame) // 2
        for _ in range(count):
            os.write(writer, frame)
        told: list[str] = []
        whole = asyncio.Event()

        def say(operation: str, path: bytes = b"", target: bytes = b"", **_: object) -> None:
            assert (operation, path, target) == ("file.removed", b"/x", b"")
            told.append(operation)
            if len(told) == count:
                whole.set()

        reading = FileEvents(asyncio.get_running_loop(), reader, say)
        await asyncio.sleep(0)
        assert len(told) <= 2 * TURN_BYTES // len(frame)
        os.close(writer)
        before = len(told)
        reading.finish()
        assert len(told) - before <= MAX_LAST_READS * TURN_BYTES // len(frame) + 1
        async with asyncio.timeout(PATIENCE):
            await whole.wait()

    asyncio.run(scenario())

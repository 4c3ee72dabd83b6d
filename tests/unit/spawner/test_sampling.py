"""Samples of what processes use: one that hangs, because a user's process lets nobody look, holds up nothing."""

import os
import select
import time

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.event_queue import News
from pyssh_gateway.spawner.link import Link
from pyssh_gateway.spawner.sampling import SAMPLE_SECONDS, Sampler
from tests.support import leaks
from tests.support.waiting import PATIENCE


def reap(sampler: Sampler) -> None:
    """Wait for the process that takes the sample; an earlier test's may end at the same time."""
    while not sampler.reaped(os.waitpid(-1, 0)[0]):
        pass


def test_a_sample_that_hangs_is_ended_and_the_next_one_is_taken() -> None:
    """Protects the spawner, which does not look itself, and descriptors: those of others are closed where it hangs."""
    with leaks.nothing_left_open():
        ours, theirs = protocol.socket_pair()
        link = Link(ours, News())
        hangs = True
        reader, writer = os.pipe()

        def besides(_spawner: int) -> set[int]:
            while hangs:
                select.select([], [], [])
            return set()

        sampler = Sampler(besides, lambda: link)
        now = time.monotonic()
        sampler.begin(1, now)
        os.close(writer)
        assert select.select([reader], [], [], PATIENCE)[0]  # the end: the process that hangs has it no more
        os.close(reader)
        assert sampler.busy
        sampler.tick(now + SAMPLE_SECONDS)
        reap(sampler)
        assert not sampler.busy
        hangs = False
        sampler.begin(2, now)
        theirs.settimeout(PATIENCE)
        report = protocol.decode_report(protocol.receive(theirs)[0])
        assert isinstance(report, protocol.Activity)
        assert report.id == 2
        reap(sampler)
        link.close()
        theirs.close()

"""Samples of what processes use: a sample that hangs, because of a user's process, delays nothing else."""

import os
import select
import time

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.sampling.sampler import SAMPLE_SECONDS, Sampler
from pyssh_gateway.system.descriptors import close_all
from tests.support import leaks
from tests.support.waiting import PATIENCE


def reap(sampler: Sampler) -> None:
    """Wait for the sampling process; one of an earlier test may end at the same time."""
    while not sampler.reaped(os.waitpid(-1, 0)[0]):
        pass


def test_a_sample_that_hangs_is_ended_and_the_next_one_is_taken() -> None:
    """Protects the spawner, which does not sample itself, and descriptors: a hanging sampler has no copies of them."""
    with leaks.nothing_left_open():
        ours, theirs = protocol.socket_pair()
        link = Link(ours, protocol.decode_monitor_request)
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
        assert select.select([reader], [], [], PATIENCE)[0]  # end of file: the sampler that hangs has closed its copy
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


def test_a_sample_is_told_although_answers_with_descriptors_wait() -> None:
    """Protects samples while answers with descriptors wait for room: only the spawner sends those, not the sampler."""
    with leaks.nothing_left_open():
        ours, theirs = protocol.socket_pair()
        link = Link(ours, protocol.decode_monitor_request)
        answers = 0
        while link.stuck_at is None:
            link.report(protocol.KeysOpened(answers), [os.open(os.devnull, os.O_RDONLY)])
            answers += 1
        sampler = Sampler(lambda _spawner: set(), lambda: link)
        sampler.begin(7, time.monotonic())
        theirs.settimeout(PATIENCE)
        while True:
            packet, descriptors = protocol.receive(theirs)
            close_all(descriptors)
            report = protocol.decode_report(packet)
            if isinstance(report, protocol.Activity):
                break
        assert report.id == 7
        reap(sampler)
        link.close()
        theirs.close()


def test_nobody_is_looked_at_for_a_monitor_that_is_gone() -> None:
    """Protects the next monitor: it gets no answer to the previous one's request."""
    sampler = Sampler(lambda _spawner: set(), lambda: Link.closed(protocol.decode_monitor_request))
    sampler.begin(1, time.monotonic())
    assert not sampler.busy

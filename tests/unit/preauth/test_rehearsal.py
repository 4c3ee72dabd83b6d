"""What a process that was forked ahead goes through before it has a client."""

import asyncio

import pytest

from pyssh_gateway.preauth import rehearsal
from tests.support import leaks


def test_a_rehearsal_leaves_nothing_behind() -> None:
    """Protects the client that comes next: a key exchange was gone through, and no descriptor or task is left of it."""
    asyncio.run(rehearsal.rehearse())
    before = leaks.own()
    asyncio.run(rehearsal.rehearse())
    leaks.check_own(before)


def test_a_rehearsal_gets_as_far_as_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects its use: what does not get to the signature has touched little of what a login needs."""
    monkeypatch.setattr(rehearsal, "SECONDS", 0.2)
    monkeypatch.setattr(rehearsal, "_PUBLIC_KEY", b"no key")
    with pytest.raises(TimeoutError):
        asyncio.run(rehearsal.rehearse())

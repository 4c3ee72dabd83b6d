"""The rehearsal of a process that was forked ahead, before it has a client."""

import asyncio

import pytest

from pyssh_gateway.preauth import rehearsal
from tests.support import leaks


def test_a_rehearsal_leaves_nothing_behind() -> None:
    """Protects the client that gets the process: no descriptor or task of the rehearsal's key exchange is left."""
    asyncio.run(rehearsal.rehearse())
    before = leaks.own()
    asyncio.run(rehearsal.rehearse())
    leaks.check_own(before)


def test_a_rehearsal_gets_as_far_as_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the rehearsal's use: it must get as far as the signature to prepare a login."""
    monkeypatch.setattr(rehearsal, "SECONDS", 0.2)
    monkeypatch.setattr(rehearsal, "_PUBLIC_KEY", b"no key")
    with pytest.raises(TimeoutError):
        asyncio.run(rehearsal.rehearse())

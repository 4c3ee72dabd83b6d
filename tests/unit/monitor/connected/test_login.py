"""monitor.connected.login: what is remembered of a login suffices to decide later whether its key is still valid."""

import pytest

from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import still_holds
from pyssh_gateway.core.access.revocations import Issued, Revocations, RevokedList, short_id
from pyssh_gateway.monitor.connected.login import essence
from tests.support.attempts import CA, accepted, show
from tests.support.certificates import made_up
from tests.support.snapshots import USER, account, line


@pytest.mark.parametrize("key_id", ["amos at work", "x" * 20_000])
def test_a_certificate_can_still_be_revoked_by_what_is_remembered_of_it(key_id: str) -> None:
    """A listed key id or serial number ends a connection that was opened before, also after a monitor's death."""
    authority = line(CA, KeyOptions(cert_authority=True))
    blob = made_up(key_id=key_id.encode(), authority=CA, extensions=b"")
    before = accepted(show(blob, KeySnapshot({USER: account(authority)})))
    remembered = essence(before)
    assert remembered.certificate is not None
    assert len(remembered.certificate.key_id) < 200
    for issued in (Issued(key_ids=frozenset({short_id(key_id)})), Issued(ranges=((7, 7),))):
        lists = (RevokedList("file:/krl", Revocations("krl", certificates={CA: issued})),)
        for one in (before, remembered):
            assert still_holds(USER, one, KeySnapshot({USER: account(authority)}))
            assert not still_holds(USER, one, KeySnapshot({USER: account(authority)}, revoked=lists))

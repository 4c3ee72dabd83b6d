"""ipc.config_origin: what a server was started with comes to others as it was."""

import pytest

from pyssh_gateway.ipc.config_origin import ConfigOrigin, unpack


def test_it_comes_as_it_was() -> None:
    """Protects `check` from looking at another file or variable than the server does: names need not be UTF-8."""
    origin = ConfigOrigin(
        directory="/srv/\udcff",
        path=None,
        environ={"PYSSH_GATEWAY_ACCOUNT": "CORP\\joe\x1b"},
        overrides={"listen.port": 22, "login": [{"user": "amos", "keys": ["file:/k"]}]},
    )
    assert unpack(origin.pack()) == origin


@pytest.mark.parametrize("packed", [b"", b"[]", b'{"directory": 7}', b"\xff"])
def test_what_is_none_is_refused(packed: bytes) -> None:
    """A server of another version is an error that can be told."""
    with pytest.raises(ValueError):  # noqa: PT011 - whatever decodes says it in its own words
        unpack(packed)

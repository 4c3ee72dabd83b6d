"""ipc.config_origin: how a server was started (files, environment, flags) reaches other processes unchanged."""

import pytest

from pyssh_gateway.ipc.config_origin import ConfigOrigin, unpack


def test_it_comes_as_it_was() -> None:
    """Protects `check` from reading another file or variable than the server; names need not be UTF-8."""
    origin = ConfigOrigin(
        directory="/srv/\udcff",
        path=None,
        environ={"PYSSH_GATEWAY_ACCOUNT": "CORP\\joe\x1b"},
        overrides={"listen.port": 22, "login": [{"user": "amos", "keys": ["file:/k"]}]},
    )
    assert unpack(origin.pack()) == origin


@pytest.mark.parametrize("packed", [b"", b"[]", b'{"directory": 7}', b"\xff"])
def test_what_is_none_is_refused(packed: bytes) -> None:
    """Data of another version's server is refused with an error that can be reported."""
    with pytest.raises(ValueError):  # noqa: PT011 - whatever decodes says it in its own words
        unpack(packed)

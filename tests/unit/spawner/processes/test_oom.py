"""The oom_score_adj values: the server's own, and those that its sessions get back."""

from pathlib import Path

import pytest

from pyssh_gateway.spawner.processes import oom


@pytest.mark.parametrize(("before", "spawner", "own"), [(0, -1000, -500), (300, -1000, -500), (-900, -1000, -900)])
def test_the_server_is_chosen_last_and_others_as_before(tmp_path: Path, before: int, spawner: int, own: int) -> None:
    """Protects the server from users who fill the memory, and the machine from sessions that can't be killed for it."""
    path = tmp_path / "oom_score_adj"

    def value() -> int:
        return int(path.read_text())

    path.write_text(f"{before}\n")
    assert oom.protect(str(path)) == before
    assert value() == spawner
    path.write_text("")
    oom.restore(oom.for_server_process(before), str(path))
    assert value() == own
    path.write_text("")
    oom.restore(before, str(path))
    assert value() == before


def test_without_the_right_to_nothing_changes(tmp_path: Path) -> None:
    """Protects containers without CAP_SYS_RESOURCE, and servers without root: they start with unchanged values."""
    missing = str(tmp_path / "none")
    assert oom.protect(missing) is None
    assert oom.for_server_process(None) is None
    oom.restore(None, missing)
    oom.restore(0, missing)
    assert list(tmp_path.iterdir()) == []

"""What the machine sets for every login."""

from pathlib import Path

import pytest

from pyssh_gateway.monitor import system_environment
from pyssh_gateway.monitor.system_environment import read_system_environment


def test_the_files_win_over_the_servers_time_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects sshd's order: /etc/environment says last what the time zone is, and without it the server's holds."""
    file = tmp_path / "environment"
    monkeypatch.setattr(system_environment, "SYSTEM_ENVIRONMENT", (file,))
    assert read_system_environment(None) == {}
    assert read_system_environment("") == {b"TZ": b""}
    assert read_system_environment("Europe/Zurich") == {b"TZ": b"Europe/Zurich"}
    file.write_text("TZ=Asia/Tokyo\nLANG=C\n")
    assert read_system_environment("Europe/Zurich") == {b"TZ": b"Asia/Tokyo", b"LANG": b"C"}

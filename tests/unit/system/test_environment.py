"""The environment that the machine sets for every login."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.system import environment
from pyssh_gateway.system.environment import parse_environment, read_system_environment


def test_the_files_win_over_the_servers_time_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects sshd's order: the TZ of /etc/environment replaces the server's, which is used without it."""
    file = tmp_path / "environment"
    monkeypatch.setattr(environment, "SYSTEM_ENVIRONMENT", (file,))
    assert read_system_environment(None) == {}
    assert read_system_environment(b"") == {b"TZ": b""}
    assert read_system_environment(b"Europe/Zurich") == {b"TZ": b"Europe/Zurich"}
    file.write_text("TZ=Asia/Tokyo\nLANG=C\n")
    assert read_system_environment(b"Europe/Zurich") == {b"TZ": b"Asia/Tokyo", b"LANG": b"C"}


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (b"", {}),
        (b'PATH="/usr/bin:/bin"\n', {b"PATH": b"/usr/bin:/bin"}),
        (b"A=1\nB=2\n", {b"A": b"1", b"B": b"2"}),
        (b"A='x y'", {b"A": b"x y"}),
        (b"A=x y", {b"A": b"x y"}),
        (b"export A=1", {b"A": b"1"}),
        (b"  A=1  \r\n", {b"A": b"1"}),
        (b"# A=1\n#B=2\n", {}),
        (b"A=1\nA=2\n", {b"A": b"2"}),
        (b"A=", {b"A": b""}),
        (b'A=""', {b"A": b""}),
        (b'A="', {b"A": b'"'}),
        (b"A=\"x'", {b"A": b"\"x'"}),
        (b"A=a=b", {b"A": b"a=b"}),
        (b"A=\xff", {b"A": b"\xff"}),
        (b"=x\nA\nA-B=1\nA B=1\n\xff=1\nA=\0\n", {}),
        (b"broken line\nA=1", {b"A": b"1"}),
    ],
)
def test_etc_environment(text: bytes, env: dict[bytes, bytes]) -> None:
    """The syntax is pam_env's; a malformed line is ignored and keeps nobody out."""
    assert parse_environment(text) == env


@given(st.binary(max_size=300))
def test_whatever_is_in_the_file_fits_an_environment(text: bytes) -> None:
    """Any file gives names and values that execve(2) accepts."""
    for name, value in parse_environment(text).items():
        assert name.replace(b"_", b"a").isalnum()
        assert b"\0" not in value
        assert b"\n" not in value


NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True).map(str.encode)
VALUES = st.from_regex(r"[!$-&(-~]([ !$-&(-~]{0,20}[!$-&(-~])?", fullmatch=True).map(str.encode)


@given(
    st.dictionaries(NAMES, VALUES, max_size=8), st.sampled_from([b"%s=%s", b'%s="%s"', b"export %s='%s'", b" %s=%s "])
)
def test_what_was_written_is_read(env: dict[bytes, bytes], form: bytes) -> None:
    """Any set of variables is read, in each of the usual forms."""
    assert parse_environment(b"\n".join(form % pair for pair in env.items())) == env

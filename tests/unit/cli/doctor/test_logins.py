"""What would stop a login: each cause is found, and none is reported where there is none."""

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

import pytest

from pyssh_gateway.cli.doctor import logins
from pyssh_gateway.cli.doctor.finding import Finding, Level
from pyssh_gateway.config.types import Config, Login
from tests.support.key_lines import ed25519

ME = pwd.getpwuid(os.geteuid()).pw_name


def config(directory: Path, *keys: str, user: str = ME, key_types: tuple[str, ...] = ()) -> Config:
    """A configuration that lets an account in by these sources; its own directories do not exist."""
    login = Login(user=user, keys=keys or (f"file:{directory}/keys.pub",), key_types=key_types)
    return Config(login=(login,), keys_dir=str(directory / "state"))


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop a login; each must say what to do."""
    found = [each for each in findings if each.level is Level.PROBLEM]
    assert all(each.hint for each in found)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a key file."""
    (tmp_path / "keys.pub").write_bytes(ed25519(1) + b"\n")
    return tmp_path


def test_a_login_that_works_has_no_problem(place: Path) -> None:
    """Nothing is reported when account, home, source and key are in order."""
    assert problems(logins.look_at_accounts(config(place))) == []
    found = list(logins.look_at_keys(config(place)))
    assert [(each.level, each.text) for each in found] == [(Level.OK, f"file:{place}/keys.pub: 1 key")]


def test_an_account_that_is_missing_is_found(place: Path) -> None:
    """A missing account is reported once, with the command that makes it."""
    (found,) = problems(logins.look_at_accounts(config(place, user="nosuchdev")))
    assert "there is no account nosuchdev" in found.text
    (found,) = problems(logins.look_at_accounts(Config()))
    assert "nobody may log in" in found.text


def test_an_account_that_is_closed_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed account is a problem, since even good keys lead to no session."""
    monkeypatch.setattr(logins, "closed", lambda _user: "The account has expired.")
    (found,) = problems(logins.look_at_accounts(config(place)))
    assert found.text == f"{ME} gets no session: The account has expired."


def test_a_home_that_is_missing_or_somebody_elses_is_a_warning(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or foreign home is only a warning, since the session begins in another directory."""
    entry = pwd.struct_passwd((ME, "x", os.geteuid(), os.getegid(), "", str(place / "home"), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    (found,) = [each for each in logins.look_at_accounts(config(place)) if each.level is Level.WARNING]
    assert found.text == f"the home of {ME}, {place}/home: No such file or directory"
    (place / "home").write_text("a file")
    (found,) = [each for each in logins.look_at_accounts(config(place)) if each.level is Level.WARNING]
    assert "is not its own" in found.text


def test_a_key_file_that_is_missing_leaves_nobody_in(place: Path) -> None:
    """A missing key file is reported as cause and effect, and the cause says how to mend it."""
    found = problems(logins.look_at_keys(config(place, f"file:{place}/none.pub")))
    assert [each.text.partition(":")[0] for each in found] == [
        f"key file {place}/none.pub can't be read",
        f"nobody gets in as {ME}",
    ]
    assert found[0].hint == logins.MAKE_FILE


def test_a_source_without_keys_is_a_warning_as_long_as_others_have_some(place: Path) -> None:
    """A source without keys is only a warning while another has some: it keeps out its own people and nobody else."""
    (place / "empty.pub").write_text("# nothing\n")
    sources = (f"file:{place}/keys.pub", f"file:{place}/empty.pub", "github-team:example/nobody")
    found = list(logins.look_at_keys(config(place, *sources)))
    assert problems(found) == []
    warnings = {each.text.partition(": ")[0] for each in found if each.level is Level.WARNING}
    assert warnings == {f"file:{place}/empty.pub", "github-team:example/nobody"}


def test_keys_that_may_not_be_used_leave_nobody_in(place: Path) -> None:
    """A login's restrictions can exclude every key, which the report about each source would not show."""
    (found,) = problems(logins.look_at_keys(config(place, key_types=("ssh-rsa",))))
    assert found.text == f"nobody gets in as {ME}: no key may be used"


def test_what_only_root_sees_is_unknown_to_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary account gets `unknown`, and not `ok`, about facts that only root can see."""
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("daemon").pw_uid)
    found = [each for each in logins.look_at_accounts(config(place)) if each.level is Level.UNKNOWN]
    assert [each.hint for each in found] == [logins.AS_ROOT]

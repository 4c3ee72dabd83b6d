"""system.accounts: how an account is shown, with a name or without."""

import pwd

import pytest

from pyssh_gateway.system.accounts import FALLBACK_ACCOUNT, monitor_account, name_of, shown_name

NOBODYS = 4_000_000_000
"""A uid that no account has."""


def test_an_account_is_called_by_its_name() -> None:
    """Protects readers: accounts are shown by name if they have one, else as a uid."""
    assert (name_of(0), shown_name(0)) == ("root", "root")
    assert (name_of(NOBODYS), shown_name(NOBODYS)) == (None, f"uid {NOBODYS}")


def test_a_directory_that_does_not_answer_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the caller from an error of a directory service (nss) that is unreachable: the uid is shown."""

    def fails(_uid: int) -> pwd.struct_passwd:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(pwd, "getpwuid", fails)
    assert shown_name(0) == "uid 0"


def test_the_monitor_runs_as_its_account_or_as_nobody() -> None:
    """Protects a machine without the configured account: the monitor runs as the fallback account, and not as root."""
    assert monitor_account("root").pw_uid == 0
    assert monitor_account("no-such-account").pw_name == FALLBACK_ACCOUNT

"""The table of keywords: it has all of sshd's, equals the page, and names only settings that exist."""

import os
import re
import shutil
import subprocess

import pytest

from pyssh_gateway.core.sshd_config import login, server
from pyssh_gateway.core.sshd_config.effective import ADD_UP, ALIASES
from pyssh_gateway.core.sshd_config.keywords import BY_NAME, DEPRECATED, KEYWORDS
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
PAGE = (ROOT / "docs" / "from-sshd.md").read_text()


@pytest.mark.skipif(SSHD is None or os.geteuid() != 0, reason="there is no sshd here, or it can't read its keys")
def test_every_keyword_of_the_real_one() -> None:
    """Protects people from a keyword of the real sshd that the table lacks."""
    argv = [str(SSHD), "-T", "-C", "user=root,host=client.example,addr=192.0.2.1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE)
    keywords = {line.split()[0] for line in done.stdout.splitlines()}
    assert len(keywords) > 80
    assert keywords <= BY_NAME.keys()


def test_the_page_is_the_table() -> None:
    """Protects readers of the page and users of the importer from different answers."""
    rows = re.findall(r"^\| ([A-Z]\w+) \| (.*) \| (.*) \|$", PAGE.partition("## Keyword by keyword")[2], re.MULTILINE)
    table = [
        (keyword.name, ", ".join(f"`{here}`" for here in keyword.here) or "-", keyword.remark) for keyword in KEYWORDS
    ]
    assert rows == table


def test_each_keyword_says_something() -> None:
    """Each keyword has one entry, which names a setting or has a remark."""
    assert len(BY_NAME) == len(KEYWORDS)
    assert not [keyword.name for keyword in KEYWORDS if not keyword.here and not keyword.remark]
    assert not DEPRECATED & BY_NAME.keys()


def test_what_is_named_is_translated() -> None:
    """The importer translates exactly the keywords for which the table names a setting."""
    apart = {"match"}  # contains other keywords and has no value itself
    named = {name for name, keyword in BY_NAME.items() if keyword.here} - apart
    assert named == server.FOR_EVERYBODY | login.TRANSLATED - WITHOUT_NAME
    assert login.TRANSLATED & server.TRANSLATED.keys() >= server.FOR_LOGINS_AS_WELL
    assert set(ALIASES.values()) | ADD_UP <= BY_NAME.keys()


WITHOUT_NAME = {"authenticationmethods", "pubkeyauthentication", "refuseconnection"}
"""Keywords that decide whether there is a login, without a setting of the same meaning here."""


def test_settings_that_are_named_exist() -> None:
    """Protects the page from naming settings that do not exist."""
    documented = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
    named = {here for keyword in KEYWORDS for here in keyword.here} - {"login[]"}
    assert not named - documented

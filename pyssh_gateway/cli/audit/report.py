"""`audit report`: writes a page about the log, one HTML file for a browser."""

import gc
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pyssh_gateway import __version__
from pyssh_gateway.audit.report import words
from pyssh_gateway.audit.report.make import make
from pyssh_gateway.audit.report.page import Asked, Page
from pyssh_gateway.audit.report.render import NotInstalled, check_installed, render
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.audit.wanted import span
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.what_if import price_of
from pyssh_gateway.config import sizes, values
from pyssh_gateway.startup.state_lock import is_running

LARGEST_BOUND = 2**30
"""The largest --recordings: browsers can't take a page of more."""

MARK = '<meta name="generator" content="pyssh-gateway '
MARKED_WITHIN = 4096
"""How an earlier report, which a new one may replace, is recognised: by this text in its first bytes."""


def report(given: Given, context: Context) -> int:
    """Write the page. No server is asked."""
    try:
        check_installed()
    except NotInstalled as error:
        raise Failed(str(error)) from None
    since, until = span(given)
    now = time.time()
    directory = audit_dir(given, context)
    path = None if given.output == "-" else Path(given.output)
    if path is not None:
        _check_replaceable(path)
    asked = Asked(
        title=given.title,
        version=__version__,
        since=since or 0.0,
        until=now if until is None else min(now, until),
        now=now,
        price=price_of(given.price),
        people=given.person,
        running=(until is None or until >= now) and is_running(directory),
    )
    recordings = _size(given.recordings)
    gc.disable()  # what is kept has no cycles, and looking for some in it takes a tenth of the time
    try:
        with readable():
            page = make(directory, asked, recordings=recordings)
    finally:
        gc.enable()
    for missing in _missing(page):
        printing.remark(missing)
    pieces = render(page)
    if path is None:
        for piece in pieces:
            printing.write(piece)
        return FINE
    with _written(path) as file:
        file.writelines(pieces)
    printing.lines([f"{path}: {_summary(page)}, {words.size(path.stat().st_size)}"])
    return FINE


def _summary(page: Page) -> str:
    days = max(1, round((page.ended - page.begun) / 86400))
    people = len(page.people) + page.more_people
    parts = [
        words.number(days, "day"),
        words.number(people, "person", "people"),
        words.number(page.session_count, "session"),
        words.number(len(page.recordings.found), "recording"),
    ]
    left_out = f" ({page.recordings.left_out:,} left out)" if page.recordings.left_out else ""
    return ", ".join(parts) + left_out


def _missing(page: Page) -> Iterator[str]:
    """What the page says it lacks, for those who make it and have not seen it."""
    recordings = page.recordings
    if recordings.problem:
        yield f"without recordings: {recordings.problem}"
    if recordings.unreadable:
        yield f"{words.number(recordings.unreadable, 'recording')} can't be read, and so not shown"


def _check_replaceable(path: Path) -> None:
    """Raises Failed if there is something at `path` that is no earlier report."""
    with suppress(OSError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Failed(f"{path} is no regular file; - is standard output")
        with path.open("rb") as file:
            if MARK.encode() not in file.read(MARKED_WITHIN):
                raise Failed(f"{path} is there already, and is no report of ours: name another file, or remove it")


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of `path` when it is complete, and that only its owner may read. Raises Failed."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                yield file
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failed(f"{path} can't be written: {error.strerror}") from None


def _size(word: str) -> int:
    try:
        return sizes.size(0, LARGEST_BOUND)(word)
    except values.UnfitError:
        raise WrongUsage(f"--recordings takes a size such as 20MiB, not {values.shown(word)}") from None

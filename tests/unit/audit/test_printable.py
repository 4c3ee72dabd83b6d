"""No field of an event can act on the terminal of a person who reads the log, or forge a line in it."""

from pyssh_gateway.audit.printable import MAX_ITEMS, printable_event
from pyssh_gateway.config.values import Duration
from pyssh_gateway.events import InternalError, KeysLoaded, RequestDenied, ServerStarted


def test_an_event_is_cleaned_in_every_field() -> None:
    """Text inside lists is made safe as well; an event that is safe already stays the same object."""
    event = KeysLoaded(
        source="url:\x1b", origin="fetched", accepted=1, refused=1, changed=True, refusals=("line 1", "line\n2")
    )
    safe = printable_event(event)
    assert isinstance(safe, KeysLoaded)
    assert (safe.source, safe.accepted, safe.refusals) == (r"url:\x1b", 1, ("line 1", r"line\n2"))
    clean = RequestDenied(conn="c1", user="amos", request="x11-req", reason="not served")
    assert printable_event(clean) is clean


def test_only_our_own_traceback_keeps_newlines() -> None:
    """A traceback keeps its newlines; its other control characters, and all those of other fields, are escaped."""
    safe = printable_event(InternalError(where="a\nb", error="Traceback:\n  raise X\nX: \x1b[2J"))
    assert isinstance(safe, InternalError)
    assert safe.where == r"a\nb"
    assert safe.error == "Traceback:\n  raise X\nX: \\x1b[2J"


def test_lists_and_numbers_are_bounded() -> None:
    """A key file full of garbage does not make a line of megabytes, and a Duration is written as any other number."""
    event = ServerStarted(
        version="1",
        address="::",
        port=22,
        pid=1,
        generation=1,
        host_keys=(),
        users=tuple(f"u{number}" for number in range(MAX_ITEMS + 5)),
        idle_timeout=Duration(0.1 + 0.2),
    )
    safe = printable_event(event)
    assert isinstance(safe, ServerStarted)
    assert len(safe.users) == MAX_ITEMS + 1
    assert safe.users[-1] == r"\[5 more cut]"
    assert safe.idle_timeout == 0.3
    assert type(safe.idle_timeout) is float

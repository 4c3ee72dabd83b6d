"""A bug of ours in a request fails that request and nothing else."""

import traceback
from collections.abc import Callable
from typing import TypeVar

from pyssh_gateway.ipc import spawner as protocol

AnyRequest = TypeVar("AnyRequest", bound=protocol.Request)


def guarded(
    request: AnyRequest,
    do: Callable[[AnyRequest], None],
    report: Callable[[protocol.Report, list[int]], None],
    say: Callable[[str], None],
) -> None:
    """Serve `request` with `do`. If that raises, refuse the request with `report`, and `say` the traceback."""
    try:
        do(request)
    except Exception:  # noqa: BLE001 - after any exception, other sessions and the next requests go on
        say(f"internal error in a request ({type(request).__name__}):\n{traceback.format_exc()}")
        if not isinstance(request, protocol.Kill):
            report(protocol.Refused(request.id, "internal error; the server's standard error has more"), [])

"""The clock, on which certificates, expiry times of keys and the age of last good copies depend."""

import http.client
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from pyssh_gateway.cli.doctor.finding import Finding, note, ok, warning
from pyssh_gateway.config.types import Config
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.http_connection import Proxies, connected
from pyssh_gateway.keys.sources import origin_of, parse_source

TOPIC = "clock"

TOLERATED_SECONDS = 30.0
"""More than the rounding of the answer's date (a second) and the time of a slow answer."""

ASK_SECONDS = 5.0

_TIME_ERROR = 5
"""adjtimex(2)'s value for a clock that is not synchronised."""

_TIMEX_BYTES = 512
"""More than the size of any kernel's struct timex; with all zeros the call changes nothing."""

SET_IT = "have it set from the network: timedatectl set-ntp true, or install chrony"


def look_at_clock(config: Config, *, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Compare the clock with the first key server that answers, or else ask the kernel."""
    date = next((found for url in _servers(config) if (found := _date_of(url, config)) is not None), None)
    if date is not None:
        seconds, server = date[0] - now(), date[1]
        if abs(seconds) > TOLERATED_SECONDS:
            off = f"{abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead'}"
            yield warning(TOPIC, f"this machine's clock is {off}, by {server}", SET_IT)
        else:
            yield ok(TOPIC, f"it is the time that {server} has")
    elif not _is_synchronised():
        yield note(TOPIC, "nothing keeps this machine's clock right, as far as the kernel knows", SET_IT)
    else:
        yield ok(TOPIC, "it is kept right by the network")


def _servers(config: Config) -> dict[str, None]:
    """The https servers of the key sources, which are asked anyway."""
    sources = (parse_source(spec) for login in config.login for spec in login.keys)
    origins = dict.fromkeys(origin_of(source, config.keys) for source in sources)
    return {origin: None for origin in origins if origin.startswith("https://")}


def _date_of(url: str, config: Config) -> tuple[float, str] | None:
    """A server's Unix time and its name; None if it does not send a date."""
    until = time.monotonic() + ASK_SECONDS

    def remaining() -> float:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    proxies = Proxies(config.keys.https_proxy, config.keys.no_proxy)
    host = urlsplit(url).netloc
    try:
        with connected(url, remaining, proxies) as connection:
            connection.request("HEAD", "/")
            return parsedate_to_datetime(connection.getresponse().getheader("Date", "")).timestamp(), host
    except (OSError, FetchError, ValueError, http.client.HTTPException):
        return None  # the finding about the source reports that it does not answer


def _is_synchronised() -> bool:
    """Whether the kernel's clock is synchronised; true if that is unknown."""
    import ctypes  # late: only needed without a server to ask

    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))) != _TIME_ERROR

"""The clock: certificates, keys that expire and last good copies are judged by it."""

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
"""More than the second to which the answer's date is rounded, and a slow answer."""

ASK_SECONDS = 5.0

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""

_TIMEX_BYTES = 512
"""More than any kernel's struct timex; all zeros changes nothing."""

SET_IT = "have it set from the network: timedatectl set-ntp true, or install chrony"


def look_at_clock(config: Config, *, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """A finding by the server of keys that is asked first, or else by the kernel."""
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
    """The https servers that are asked for keys anyway."""
    sources = (parse_source(spec) for login in config.login for spec in login.keys)
    origins = dict.fromkeys(origin_of(source, config.keys) for source in sources)
    return {origin: None for origin in origins if origin.startswith("https://")}


def _date_of(url: str, config: Config) -> tuple[float, str] | None:
    """The Unix time that a server has, and its name; None if it does not say."""
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
        return None  # that it can't be asked is said of the source


def _is_synchronised() -> bool:
    """What the kernel says; yes if it does not."""
    import ctypes  # late: without a server to ask only

    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))) != _TIME_ERROR

"""One POST to a webhook, within a deadline: whether it was taken. The answer's text is not read.

A webhook's address may hold a token, so no text that is made here has more of it than its scheme, host and port.
"""

import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from pyssh_gateway import __version__
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.http_connection import Proxies, connected, origin
from pyssh_gateway.machine.stop import OK

_SUCCESS = 2  # the first digit
_HEADERS = {"User-Agent": f"pyssh-gateway/{__version__}", "Content-Type": "application/json", "Connection": "close"}


def post(url: str, body: bytes, seconds: float, proxies: Proxies, *, now: Callable[[], float] = time.monotonic) -> str:
    """Send `body`, JSON, to `url`; returns `OK`, or why that failed. Blocks, for `seconds` at most.

    As with keys, the deadline does not cover the C library's name look-up. Redirects are not followed: the new address
    was not configured.
    """
    import http.client  # late: takes 8 ms with its email parser, and is only needed here
    import ssl

    deadline = now() + seconds

    def remaining() -> float:
        left = deadline - now()
        if left <= 0:
            raise TimeoutError
        return left

    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = origin(url)
    try:
        with connected(url, remaining, proxies) as connection:
            connection.request("POST", target, body=body, headers=_HEADERS)
            with connection.getresponse() as response:
                status = response.status
    except FetchError as error:
        return error.reason
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {host} is not trusted: {error.verify_message}"
    except socket.gaierror as error:
        return f"{host} was not found: {error.strerror}"
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except (http.client.HTTPException, ValueError) as error:  # before OSError: RemoteDisconnected is both
        return f"{host} does not answer in proper HTTP ({type(error).__name__})"
    except OSError as error:  # ssl.SSLError is one
        return f"no connection to {host}: {error.strerror or type(error).__name__}"
    if status // 100 == _SUCCESS:
        return OK
    return f"the server answered {status} ({http.client.responses.get(status, 'no known status')})"

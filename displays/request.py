"""One HTTP request to a server that may hang, drip, flood or babble: it ends in time, and little is read."""

import time
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from util.http_deadline import DeadlineResponse

MAX_RESPONSE_BYTES = 4096  # bytes read of an answer


def post(address: str, path: str, data: bytes, seconds: float) -> str:
    """Send JSON and return the beginning of the answer; proxies are not asked, redirections not followed.

    The answer has to be whole `seconds` after it was sent, however it trickles in. Raises OSError (refused, timed out),
    HTTPException (not HTTP, or a status other than 200) or ValueError (no address).
    """
    parts = urlsplit(address)
    kind = {"http": HTTPConnection, "https": HTTPSConnection}.get(parts.scheme)
    if kind is None or not parts.hostname:
        raise ValueError(f"{address} is no address of a server")
    connection = kind(parts.hostname, parts.port, timeout=seconds)
    connection.response_class = partial(DeadlineResponse, time.monotonic() + seconds)
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", parts.path.rstrip("/") + path, data, headers)
        with connection.getresponse() as answer:
            if answer.status != 200:
                raise HTTPException(f"status {answer.status}")
            return answer.read(MAX_RESPONSE_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()

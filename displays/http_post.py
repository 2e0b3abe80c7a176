"""Send one HTTP request with limits on total time and response size, for servers that may misbehave."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from util.http_deadline import DeadlineResponse

MAX_RESPONSE_BYTES = 4096  # maximum bytes read from a response


def post(address: str, path: str, data: bytes, seconds: float) -> str:
    """Post JSON and return the beginning of the response; ignore proxies and do not follow redirects.

    The headers of the response, and then its content, may each take `seconds`, even if they arrive byte by byte. Raise
    OSError (refused, timed out), HTTPException (not HTTP, or a status other than 200) or ValueError (not an address).
    """
    parts = urlsplit(address)
    kind = {"http": HTTPConnection, "https": HTTPSConnection}.get(parts.scheme)
    if kind is None or not parts.hostname:
        raise ValueError(f"{address} is not a server address")
    connection = kind(parts.hostname, parts.port, timeout=seconds)
    connection.response_class = DeadlineResponse
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", parts.path.rstrip("/") + path, data, headers)
        with connection.getresponse() as answer:
            if answer.status != 200:
                raise HTTPException(f"status {answer.status}")
            return answer.read(MAX_RESPONSE_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()

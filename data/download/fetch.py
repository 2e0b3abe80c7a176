"""Download one file completely, from servers that may be slow, break off or send something else, or say why not.

A chunk of CHUNK_BYTES bytes may take HTTP_TIMEOUT_S seconds. A download that breaks off is resumed if the server still
has the same file. Proxies come from the environment (https_proxy, no_proxy), certificates from the system.
"""

import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from data.download.partial import PartialFile
from util import disk_space
from util.errors import EnvironmentFault, printable
from util.http_deadline import DeadlineResponse

HTTP_TIMEOUT_S = 30.0  # seconds for a response to start, and for each chunk of it
CHUNK_BYTES = 1 << 16
MAX_STALLED_TRIES = 5  # tries in a row without new bytes after which an address fails
RETRY_PAUSE_S = 2.0  # seconds before the first retry; then twice, three times as long
MAX_FILE_BYTES = 64 << 30
_RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)

ShowProgress = Callable[[int, int | None], None]  # called with (bytes so far, bytes in total)


class PermanentError(Exception):
    """The reason why an address does not give the file; trying it again would not help."""


class Interrupted(Exception):
    """The reason why a response broke off; the download may be resumed."""


@dataclass
class DownloadSpec:
    """The requirements for a download: the first bytes of the file, its maximum size, and free space for it."""

    part: PartialFile
    signatures: tuple[bytes, ...]
    check_free_space: Callable[[int], None]  # called with the size of the file; raises EnvironmentFault
    show: ShowProgress
    max_bytes: int = MAX_FILE_BYTES


def fetch(addresses: list[str], spec: DownloadSpec, by_hand: str) -> str:
    """Complete a partial file from the first address that gives it; return that address.

    by_hand: the remedy if all fail, which is to download the file by other means. Raises EnvironmentFault.
    """
    part = spec.part
    if part.is_complete:
        return str(part.metadata["address"])
    reasons = []
    for number, address in enumerate(addresses, 1):
        try:
            _fetch_with_retries(address, spec)
            return address
        except PermanentError as problem:
            reasons.append(f"{_strip_credentials(address)}: {problem}")
            if number < len(addresses):
                print(printable(f"note: {reasons[-1]}; trying {_strip_credentials(addresses[number])}"), flush=True)
    first, others = _strip_credentials(addresses[0]), reasons[1:]
    why = reasons[0].removeprefix(f"{first}: ") + "".join(f"; {other}" for other in others)
    raise EnvironmentFault("address", first, f"cannot be downloaded: {why}", by_hand)


def _fetch_with_retries(address: str, spec: DownloadSpec) -> None:
    """Request an address again and again, until MAX_STALLED_TRIES tries in a row bring no new bytes."""
    part = spec.part
    most_bytes, tries = part.size, 0
    while True:
        try:
            _fetch_once(address, spec)
            return
        except Interrupted as problem:
            tries = 1 if part.size > most_bytes else tries + 1
            most_bytes = max(most_bytes, part.size)
            if tries >= MAX_STALLED_TRIES:
                raise PermanentError(f"{problem}, {tries} times at {disk_space.format_bytes(most_bytes)}") from problem
        time.sleep(RETRY_PAUSE_S * tries)


def _fetch_once(address: str, spec: DownloadSpec) -> None:
    """Send one request, for the whole file or for the missing rest, and append the response."""
    part = spec.part
    headers = {"User-Agent": "GANvas", "Accept-Encoding": "identity"}
    version_tag = part.metadata.get("mark") if part.metadata.get("address") == address else ""
    if version_tag and part.size:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": str(version_tag)}
    with _open_url(address, headers, part) as response:
        total, chunk = _start_transfer(response, address, spec)
        while chunk:
            if part.size + len(chunk) > spec.max_bytes:
                raise PermanentError(f"sends more than {spec.max_bytes} bytes")
            part.append(chunk)
            spec.show(part.size, total)
            chunk = _read_chunk(response)
    if total is not None and part.size != total:
        raise Interrupted(f"the answer broke off ({part.size} of {total} bytes)")
    if total is None:  # without a length, the file ends with the connection
        part.metadata["total"] = part.size


def _start_transfer(response: Any, address: str, spec: DownloadSpec) -> tuple[int | None, bytes]:
    """Return (size of the whole file, first chunk to append); empty the part unless the response continues it."""
    # A partial response must continue the part.
    part = spec.part
    length = response.headers.get("Content-Length", "")
    version_tag = _version_tag(response.headers)
    if response.status == 206:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        same_version = not version_tag or version_tag == part.metadata.get("mark")
        if not (
            content_range
            and same_version
            and int(content_range[1]) == part.size
            and int(content_range[2]) == (part.metadata.get("total") or -1)
        ):
            part.restart()
            raise Interrupted("the server has another file than before")
        total = int(content_range[2])
        spec.check_free_space(total)
        return total, _read_chunk(response)

    # A full response starts over, if it is the right kind of file.
    chunk = _read_chunk(response)
    if not chunk and length != "0":
        raise Interrupted("the answer broke off at once")
    if not chunk.startswith(spec.signatures):
        page = response.headers.get_content_type() == "text/html" or chunk.lstrip()[:1] == b"<"
        what = "a web page (does the network require a login?)" if page else "another kind of file"
        raise PermanentError(f"sends {what}" if chunk else "sends nothing")
    total_bytes = int(length) if length.isdecimal() and not response.chunked else None
    spec.check_free_space(total_bytes or 0)
    part.restart(address, version_tag, total_bytes)
    return total_bytes, chunk


def _version_tag(headers: Any) -> str:
    """Return the header that identifies a version of the file, a strong ETag or a date; "" if it has neither."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _read_chunk(response: Any) -> bytes:
    """Return the next bytes, b"" at the end; raise Interrupted."""
    response.set_timeout(HTTP_TIMEOUT_S)
    try:
        return response.read(CHUNK_BYTES)
    except TimeoutError as problem:
        raise Interrupted(f"nearly nothing arrived in {HTTP_TIMEOUT_S:g} s") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise Interrupted(f"the connection broke ({_error_text(problem)})") from problem


def _open_url(address: str, headers: dict[str, str], part: PartialFile) -> Any:
    """Return the response to a request; raise Interrupted or PermanentError."""
    try:
        return _build_opener().open(urllib.request.Request(address, headers=headers), timeout=HTTP_TIMEOUT_S)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code == 416:  # the part is longer than the file, so the file is another one
            part.restart()
            raise Interrupted("the server has another file than before") from problem
        reason = str(problem.reason or "").partition("\n")[0]
        if 300 <= problem.code < 400:
            raise PermanentError(
                f"it redirects {'in circles' if 'infinite' in reason else 'to something that is not on the web'}"
            ) from problem
        kind = Interrupted if problem.code in _RETRIED_STATUSES else PermanentError
        raise kind(f"the server answers {problem.code}" + (reason and f" ({reason})")) from problem
    except urllib.error.URLError as problem:
        raise PermanentError(_error_text(problem.reason) + _proxy_hint(address)) from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:  # ValueError: idna rejects the host name
        kind = PermanentError if isinstance(problem, (ValueError, http.client.InvalidURL)) else Interrupted
        raise kind(f"no answer ({_error_text(problem)})" + _proxy_hint(address)) from problem


def _error_text(problem: object) -> str:
    """Return a connection error in a few words."""
    if isinstance(problem, socket.gaierror):
        return f"the server's name is not found ({problem.strerror}); is there a network?"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({problem.verify_message})"
    if isinstance(problem, ssl.SSLError):
        return f"no secure connection ({problem.reason or 'TLS'})"
    if isinstance(problem, TimeoutError):
        return f"nothing in {HTTP_TIMEOUT_S:g} s"
    return str(getattr(problem, "strerror", None) or problem or type(problem).__name__)


def _proxy_hint(address: str) -> str:
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return f" through the proxy {_strip_credentials(proxy)} (set by {parts.scheme}_proxy)"


def _strip_credentials(address: str) -> str:
    """Return an address without a user name and password."""
    scheme, mark, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follow a few redirects, but none from https to http, and none to other schemes."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # otherwise its whole body would be read
        if not newurl.startswith("https:" if req.full_url.startswith("https:") else ("http:", "https:")):
            raise urllib.error.URLError(f"it redirects to {_strip_credentials(newurl)}, which is not secure")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _build_opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https addresses only."""
    request = urllib.request
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        _Http(),
        _Https(),
        _Redirect(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(partial(_timed_connection, http.client.HTTPConnection), req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: Any) -> Any:
        secure = partial(_timed_connection, http.client.HTTPSConnection)
        return self.do_open(secure, req, context=ssl.create_default_context())  # type: ignore[arg-type]


def _timed_connection(connection_class: Any, *args: Any, **kwargs: Any) -> Any:
    connection = connection_class(*args, **kwargs)
    connection.response_class = partial(DeadlineResponse, time.monotonic() + HTTP_TIMEOUT_S)
    return connection

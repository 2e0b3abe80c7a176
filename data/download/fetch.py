"""Fetch one file from servers that may cut it, drip, lie, or send something else: whole, or an error that says why.

A piece of CHUNK_BYTES bytes has HTTP_TIMEOUT_S seconds; a file that is cut is continued where it broke off, if the
server still has the same one. Proxies are those of the environment (https_proxy, no_proxy), certificates those of the
system.
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

HTTP_TIMEOUT_S = 30.0  # seconds for an answer to begin, and for each piece of it
CHUNK_BYTES = 1 << 16  # bytes
MAX_STALLED_TRIES = 5  # times in a row without a byte more than before, then it is given up
RETRY_PAUSE_S = 2.0  # seconds before the first new try; then twice, three times as long
MAX_FILE_BYTES = 64 << 30  # bytes
_RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)

ShowProgress = Callable[[int, int | None], None]  # told (bytes there, bytes in all)


class PermanentError(Exception):
    """Why an address does not give the file, in a few words; asking it again would not help."""


class Interrupted(Exception):
    """Why an answer broke off; what is there may be continued."""


@dataclass
class DownloadSpec:
    """What is wanted of a file: how it begins, how long it is at most, and where it is to have room."""

    part: PartialFile
    signatures: tuple[bytes, ...]
    check_free_space: Callable[[int], None]  # told the bytes of the file; raises EnvironmentFault
    show: ShowProgress
    max_bytes: int = MAX_FILE_BYTES


def fetch(addresses: list[str], spec: DownloadSpec, by_hand: str) -> str:
    """Make a part whole from the first address that gives it; return that address.

    by_hand: what to do with a file that was fetched in another way. Raises EnvironmentFault.
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
    """Ask an address again and again, as long as each answer brings more than there ever was."""
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
    """Ask once, for all or for what is missing, and append what comes."""
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
    if total is None:  # the connection's end was the file's
        part.metadata["total"] = part.size


def _start_transfer(response: Any, address: str, spec: DownloadSpec) -> tuple[int | None, bytes]:
    """Return (bytes of the whole file, the first piece to append), with the part emptied unless this continues it."""
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
    chunk = _read_chunk(response)
    if not chunk and length != "0":
        raise Interrupted("the answer broke off at once")
    if not chunk.startswith(spec.signatures):
        page = response.headers.get_content_type() == "text/html" or chunk.lstrip()[:1] == b"<"
        what = "a web page (of a network that wants a login?)" if page else "another kind of file"
        raise PermanentError(f"sends {what}" if chunk else "sends nothing")
    total_bytes = int(length) if length.isdecimal() and not response.chunked else None
    spec.check_free_space(total_bytes or 0)
    part.restart(address, version_tag, total_bytes)
    return total_bytes, chunk


def _version_tag(headers: Any) -> str:
    """Return what tells one version of a file from another: a strong ETag or a date; "" if there is neither."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _read_chunk(response: Any) -> bytes:
    """Return the next bytes, b"" at the end; raise Interrupted."""
    response.set_timeout(HTTP_TIMEOUT_S)
    try:
        return response.read(CHUNK_BYTES)
    except TimeoutError as problem:
        raise Interrupted(f"nearly nothing came in {HTTP_TIMEOUT_S:g} s") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise Interrupted(f"the connection broke ({_error_text(problem)})") from problem


def _open_url(address: str, headers: dict[str, str], part: PartialFile) -> Any:
    """Return the answer to a request; raise Interrupted or PermanentError."""
    try:
        return _build_opener().open(urllib.request.Request(address, headers=headers), timeout=HTTP_TIMEOUT_S)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code == 416:  # what is there is longer than the file: another one
            part.restart()
            raise Interrupted("the server has another file than before") from problem
        reason = str(problem.reason or "").partition("\n")[0]
        if 300 <= problem.code < 400:
            raise PermanentError(
                f"it leads {'in circles' if 'infinite' in reason else 'nowhere on the web'}"
            ) from problem
        kind = Interrupted if problem.code in _RETRIED_STATUSES else PermanentError
        raise kind(f"the server answers {problem.code}" + (reason and f" ({reason})")) from problem
    except urllib.error.URLError as problem:
        raise PermanentError(_error_text(problem.reason) + _proxy_hint(address)) from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:  # ValueError: no name of a host, for idna
        kind = PermanentError if isinstance(problem, (ValueError, http.client.InvalidURL)) else Interrupted
        raise kind(f"no answer ({_error_text(problem)})" + _proxy_hint(address)) from problem


def _error_text(problem: object) -> str:
    """Return what went wrong with a connection in a few words."""
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
    return f" through the proxy {_strip_credentials(proxy)}, as {parts.scheme}_proxy says"


def _strip_credentials(address: str) -> str:
    """Return an address without a name and password in it."""
    scheme, mark, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections, but none from a secure address to one that is not, nor to anything but the web."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # else all of its body would be read
        if not newurl.startswith("https:" if req.full_url.startswith("https:") else ("http:", "https:")):
            raise urllib.error.URLError(f"it leads to {_strip_credentials(newurl)}, which is not secure")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _build_opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses of the web, and no others."""
    request = urllib.request
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler(), _Http(), _Https(), _Redirect(), request.HTTPDefaultErrorHandler(),
                    request.HTTPErrorProcessor(), request.UnknownHandler()):  # fmt: skip
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

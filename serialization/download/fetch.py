"""Download one file completely, from servers that may be slow, break off or send something else, or say why not.

A response may take HTTP_TIMEOUT_S seconds to start, and then as long for every 64 kB. A download that breaks off is
resumed if the server still has the same file. Proxies come from the environment (https_proxy, no_proxy), certificates
from the system.
"""

import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError, SSLError

from serialization.download.http_deadline import DeadlineResponse
from serialization.download.partial import PartialFile
from util import disk_space
from util.errors import EnvironmentFault, print_line

HTTP_TIMEOUT_S = 30.0  # seconds for a response to start, and for each chunk of it
CHUNK_BYTES = 1 << 16
MAX_STALLED_TRIES = 5  # tries in a row without new bytes after which an address fails
RETRY_PAUSE_S = 2.0  # seconds before the first retry; then twice, three times as long
MAX_FILE_BYTES = 64 << 30
MAX_REDIRECTS = 10
_RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)

ShowProgress = Callable[[int, int | None], None]  # called with (bytes so far, bytes in total)


class PermanentError(Exception):
    """The reason why an address does not give the file; trying it again would not help."""


class Interrupted(Exception):
    """The reason why a response broke off; the download may be resumed."""


@dataclass
class DownloadSpec:
    """The requirements for a download: the first bytes of the file and its maximum size."""

    part: PartialFile
    signatures: tuple[bytes, ...]
    show: ShowProgress
    max_bytes: int = MAX_FILE_BYTES


def fetch(addresses: list[str], spec: DownloadSpec, by_hand: str) -> str:
    """Complete a partial file from the first address that gives it; return that address.

    by_hand: the remedy if all fail, which is to download the file by other means. Raises EnvironmentFault.
    """
    if spec.part.is_complete:
        return str(spec.part.metadata["address"])
    reasons: list[str] = []
    for address in addresses:
        shown = _strip_credentials(address)
        if reasons:
            print_line(f"note: {reasons[-1]}; trying {shown}")
        try:
            _fetch_with_retries(address, spec)
            return address
        except PermanentError as problem:
            reasons.append(f"{shown}: {problem}")
    first = _strip_credentials(addresses[0])
    why = "; ".join(reasons).removeprefix(f"{first}: ")
    raise EnvironmentFault("address", first, f"cannot be downloaded: {why}", by_hand)


def _fetch_with_retries(address: str, spec: DownloadSpec) -> None:
    """Request an address again and again, until MAX_STALLED_TRIES tries in a row bring no new bytes."""
    part = spec.part
    most_bytes, tries = part.size, 0
    while True:
        try:
            return _fetch_once(address, spec)
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
    with _open_url(address, headers) as response:
        total, chunk = _start_transfer(response, address, spec)
        while chunk:
            if part.size + len(chunk) > spec.max_bytes:
                raise PermanentError(f"sends more than {spec.max_bytes} bytes")
            part.append(chunk)
            spec.show(part.size, total)
            chunk = _read_chunk(response)
    if total is None:  # without a length, the file ends with the connection
        part.metadata["total"] = part.size
    elif part.size != total:
        raise Interrupted(f"the answer broke off ({part.size} of {total} bytes)")


def _start_transfer(response: urllib3.BaseHTTPResponse, address: str, spec: DownloadSpec) -> tuple[int | None, bytes]:
    """Return (size of the whole file, first chunk to append); empty the part unless the response continues it."""
    part, headers = spec.part, response.headers
    etag = headers.get("ETag", "")  # a strong ETag or a date identifies a version of the file
    version_tag = etag if etag.startswith('"') else headers.get("Last-Modified", "")

    # A partial response must continue the part, which 416 says is longer than the file.
    if response.status in (206, 416):
        total: int | None = part.metadata.get("total")
        continues = re.fullmatch(rf"bytes {part.size}-\d+/{total}", headers.get("Content-Range", ""))
        if not continues or version_tag not in ("", part.metadata.get("mark")):
            part.restart()
            raise Interrupted("the server has another file than before")
        part.check_free_space(total or 0)
        return total, _read_chunk(response)
    if not 200 <= response.status < 300:
        kind = Interrupted if response.status in _RETRIED_STATUSES else PermanentError
        raise kind(f"the server answers {response.status}" + (f" ({response.reason})" if response.reason else ""))

    # A full response starts over, if it is the right kind of file.
    chunk, length = _read_chunk(response), headers.get("Content-Length", "")
    if not chunk and length != "0":
        raise Interrupted("the answer broke off at once")
    if not chunk.startswith(spec.signatures):
        page = headers.get("Content-Type", "").startswith("text/html") or chunk.lstrip()[:1] == b"<"
        what = "a web page (does the network require a login?)" if page else "another kind of file"
        raise PermanentError(f"sends {what}" if chunk else "sends nothing")
    total = int(length) if length.isdecimal() and "Transfer-Encoding" not in headers else None
    part.check_free_space(total or 0)
    part.restart(address, version_tag, total)
    return total, chunk


def _read_chunk(response: urllib3.BaseHTTPResponse) -> bytes:
    """Return the next bytes, b"" at the end; raise Interrupted."""
    try:
        return response.read(CHUNK_BYTES)
    except urllib3.exceptions.ReadTimeoutError as problem:
        raise Interrupted(f"nearly nothing arrived in {HTTP_TIMEOUT_S:g} s") from problem
    except (OSError, HTTPException, HTTPError) as problem:
        raise Interrupted(f"the connection broke ({_error_text(problem)})") from problem


def _open_url(address: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    """Return the response to a request, after redirects; raise Interrupted or PermanentError."""
    try:
        for _ in range(MAX_REDIRECTS + 1):
            once: Any = {"timeout": HTTP_TIMEOUT_S, "redirect": False, "retries": False}
            once |= {"preload_content": False, "decode_content": False, "enforce_content_length": False}
            response = _pool_manager(address).request("GET", address, headers=headers, **once)
            if not 300 <= response.status < 400:
                return response
            response.close()
            address = _redirect_target(address, response.get_redirect_location() or "")
    except (NewConnectionError, ConnectTimeoutError, SSLError, ProxyError) as problem:
        raise PermanentError(_error_text(problem) + _proxy_hint(address)) from problem
    except (OSError, HTTPException, HTTPError, ValueError) as problem:  # ValueError: no host can have such a name
        kind = PermanentError if isinstance(problem, ValueError) else Interrupted
        raise kind(f"no answer ({_error_text(problem)})" + _proxy_hint(address)) from problem
    raise PermanentError("it redirects in circles")


def _redirect_target(address: str, location: str) -> str:
    """Return the address that a server redirects to; raise PermanentError if it is not on the web, or less secure."""
    target = urljoin(address, location)
    scheme = urlsplit(target).scheme
    if not location or scheme not in ("http", "https", "ftp"):
        raise PermanentError("it redirects to something that is not on the web")
    if scheme == "ftp" or (scheme == "http" and urlsplit(address).scheme == "https"):
        raise PermanentError(f"it redirects to {_strip_credentials(target)}, which is not secure")
    return target


def _error_text(problem: BaseException) -> str:
    """Return a connection error in a few words."""
    while isinstance(problem, HTTPError) and (inner := problem.__cause__ or problem.__context__):
        problem = inner
    if isinstance(problem, socket.gaierror):
        return f"the server's name is not found ({problem.strerror}); is there a network?"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({problem.verify_message})"
    if isinstance(problem, ssl.SSLError):
        return f"no secure connection ({problem.reason or 'TLS'})"
    if isinstance(problem, TimeoutError):
        return f"nothing in {HTTP_TIMEOUT_S:g} s"
    return str(getattr(problem, "strerror", None) or problem or type(problem).__name__)


def _proxy(address: str) -> str:
    """Return the address of the proxy that the environment sets for an address; "" if none."""
    parts = urlsplit(address)
    proxy = "" if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme, "")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _proxy_hint(address: str) -> str:
    proxy = _strip_credentials(_proxy(address))
    return f" through the proxy {proxy} (set by {urlsplit(address).scheme}_proxy)" if proxy else ""


def _strip_credentials(address: str) -> str:
    """Return an address without a user name and password."""
    return re.sub(r"^([^:]*://)[^/]*@", r"\1", address)


def _pool_manager(address: str) -> urllib3.PoolManager:
    """Return what sends requests for an address, through its proxy if there is one."""
    context, proxy = ssl.create_default_context(), _proxy(address)
    manager = urllib3.PoolManager(ssl_context=context)
    if proxy:
        login = unquote(urllib3.util.parse_url(proxy).auth or "")
        proxy_headers = urllib3.make_headers(proxy_basic_auth=login or None)
        manager = urllib3.ProxyManager(proxy, proxy_headers=proxy_headers, ssl_context=context)
    pool: Any = manager.connection_from_url(address)  # the one that a request for the address will use
    pool.ConnectionCls = type("Connection", (pool.ConnectionCls,), {"response_class": DeadlineResponse})
    return manager

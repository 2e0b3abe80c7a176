"""Fetch one file from servers that may cut it, drip, lie, or send something else: whole, or an error that says why.

A piece of PIECE bytes has PATIENCE seconds; a file that is cut is continued where it broke off, if the server still has
the same one. Proxies are those of the environment (https_proxy, no_proxy), certificates those of the system.
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

from data.download.partial import Part
from util import disk_space
from util.errors import EnvironmentFault, printable
from util.http_deadline import TimedAnswer

PATIENCE = 30.0  # seconds for an answer to begin, and for each piece of it
PIECE = 1 << 16  # bytes
TRIES = 5  # times in a row without a byte more than before, then it is given up
PAUSE = 2.0  # seconds before the first new try; then twice, three times as long
LARGEST = 64 << 30  # bytes
_RETRIED = (408, 425, 429, 500, 502, 503, 504)

Show = Callable[[int, int | None], None]  # told (bytes there, bytes in all)


class Useless(Exception):
    """Why an address does not give the file, in a few words; asking it again would not help."""


class Cut(Exception):
    """Why an answer broke off; what is there may be continued."""


@dataclass
class Wish:
    """What is wanted of a file: how it begins, how long it is at most, and where it is to have room."""

    part: Part
    beginnings: tuple[bytes, ...]
    check_room: Callable[[int], None]  # told the bytes of the file; raises EnvironmentFault
    show: Show
    largest: int = LARGEST


def fetch(addresses: list[str], wish: Wish, by_hand: str) -> str:
    """Make a part whole from the first address that gives it; return that address.

    by_hand: what to do with a file that was fetched in another way. Raises EnvironmentFault.
    """
    part = wish.part
    if part.is_whole:
        return str(part.said["address"])
    whys = []
    for number, address in enumerate(addresses, 1):
        try:
            _persist(address, wish)
            return address
        except Useless as problem:
            whys.append(f"{_without_secrets(address)}: {problem}")
            if number < len(addresses):
                print(printable(f"note: {whys[-1]}; trying {_without_secrets(addresses[number])}"), flush=True)
    first, others = _without_secrets(addresses[0]), whys[1:]
    why = whys[0].removeprefix(f"{first}: ") + "".join(f"; {other}" for other in others)
    raise EnvironmentFault("address", first, f"cannot be downloaded: {why}", by_hand)


def _persist(address: str, wish: Wish) -> None:
    """Ask an address again and again, as long as each answer brings more than there ever was."""
    part = wish.part
    farthest, tries = part.size, 0
    while True:
        try:
            _attempt(address, wish)
            return
        except Cut as problem:
            tries = 1 if part.size > farthest else tries + 1
            farthest = max(farthest, part.size)
            if tries >= TRIES:
                raise Useless(f"{problem}, {tries} times at {disk_space.in_units(farthest)}") from problem
        time.sleep(PAUSE * tries)


def _attempt(address: str, wish: Wish) -> None:
    """Ask once, for all or for what is missing, and append what comes."""
    part = wish.part
    headers = {"User-Agent": "GANvas", "Accept-Encoding": "identity"}
    mark = part.said.get("mark") if part.said.get("address") == address else ""
    if mark and part.size:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": str(mark)}
    with _opened(address, headers, part) as answer:
        total, piece = _agree(answer, address, wish)
        while piece:
            if part.size + len(piece) > wish.largest:
                raise Useless(f"sends more than {wish.largest} bytes")
            part.add(piece)
            wish.show(part.size, total)
            piece = _piece(answer)
    if total is not None and part.size != total:
        raise Cut(f"the answer broke off ({part.size} of {total} bytes)")
    if total is None:  # the connection's end was the file's
        part.said["total"] = part.size


def _agree(answer: Any, address: str, wish: Wish) -> tuple[int | None, bytes]:
    """Return (bytes of the whole file, the first piece to append), with the part emptied unless this continues it."""
    part = wish.part
    length = answer.headers.get("Content-Length", "")
    mark = _mark(answer.headers)
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        same = not mark or mark == part.said.get("mark")
        if not (found and same and int(found[1]) == part.size and int(found[2]) == (part.said.get("total") or -1)):
            part.begin()
            raise Cut("the server has another file than before")
        total = int(found[2])
        wish.check_room(total)
        return total, _piece(answer)
    piece = _piece(answer)
    if not piece and length != "0":
        raise Cut("the answer broke off at once")
    if not piece.startswith(wish.beginnings):
        page = answer.headers.get_content_type() == "text/html" or piece.lstrip()[:1] == b"<"
        what = "a web page (of a network that wants a login?)" if page else "another kind of file"
        raise Useless(f"sends {what}" if piece else "sends nothing")
    whole = int(length) if length.isdecimal() and not answer.chunked else None
    wish.check_room(whole or 0)
    part.begin(address, mark, whole)
    return whole, piece


def _mark(headers: Any) -> str:
    """Return what tells one version of a file from another: a strong ETag or a date; "" if there is neither."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _piece(answer: Any) -> bytes:
    """Return the next bytes, b"" at the end; raise Cut."""
    answer.allow(PATIENCE)
    try:
        return answer.read(PIECE)
    except TimeoutError as problem:
        raise Cut(f"nearly nothing came in {PATIENCE:g} s") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise Cut(f"the connection broke ({_words(problem)})") from problem


def _opened(address: str, headers: dict[str, str], part: Part) -> Any:
    """Return the answer to a request; raise Cut or Useless."""
    try:
        return _opener().open(urllib.request.Request(address, headers=headers), timeout=PATIENCE)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code == 416:  # what is there is longer than the file: another one
            part.begin()
            raise Cut("the server has another file than before") from problem
        reason = str(problem.reason or "").partition("\n")[0]
        if 300 <= problem.code < 400:
            raise Useless(f"it leads {'in circles' if 'infinite' in reason else 'nowhere on the web'}") from problem
        kind = Cut if problem.code in _RETRIED else Useless
        raise kind(f"the server answers {problem.code}" + (reason and f" ({reason})")) from problem
    except urllib.error.URLError as problem:
        raise Useless(_words(problem.reason) + _through_proxy(address)) from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:  # ValueError: no name of a host, for idna
        kind = Useless if isinstance(problem, (ValueError, http.client.InvalidURL)) else Cut
        raise kind(f"no answer ({_words(problem)})" + _through_proxy(address)) from problem


def _words(problem: object) -> str:
    """Return what went wrong with a connection in a few words."""
    if isinstance(problem, socket.gaierror):
        return f"the server's name is not found ({problem.strerror}); is there a network?"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({problem.verify_message})"
    if isinstance(problem, ssl.SSLError):
        return f"no secure connection ({problem.reason or 'TLS'})"
    if isinstance(problem, TimeoutError):
        return f"nothing in {PATIENCE:g} s"
    return str(getattr(problem, "strerror", None) or problem or type(problem).__name__)


def _through_proxy(address: str) -> str:
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return f" through the proxy {_without_secrets(proxy)}, as {parts.scheme}_proxy says"


def _without_secrets(address: str) -> str:
    """Return an address without a name and password in it."""
    scheme, mark, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections, but none from a secure address to one that is not, nor to anything but the web."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # else all of its body would be read
        if not newurl.startswith("https:" if req.full_url.startswith("https:") else ("http:", "https:")):
            raise urllib.error.URLError(f"it leads to {_without_secrets(newurl)}, which is not secure")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses of the web, and no others."""
    urls = urllib.request
    opener = urls.OpenerDirector()
    for handler in (urls.ProxyHandler(), _Http(), _Https(), _Redirect(), urls.HTTPDefaultErrorHandler(),
                    urls.HTTPErrorProcessor(), urls.UnknownHandler()):  # fmt: skip
        opener.add_handler(handler)
    return opener


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(partial(_timed, http.client.HTTPConnection), req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: Any) -> Any:
        secure = partial(_timed, http.client.HTTPSConnection)
        return self.do_open(secure, req, context=ssl.create_default_context())  # type: ignore[arg-type]


def _timed(kind: Any, *args: Any, **more: Any) -> Any:
    connection = kind(*args, **more)
    connection.response_class = partial(TimedAnswer, time.monotonic() + PATIENCE)
    return connection

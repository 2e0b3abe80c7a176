"""A local web server that misbehaves on request, and archives for it to serve."""

import gzip
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ETAG = '"one"'


class Web:
    """Serve `pages`, {path: function that answers}; `asked` lists the (path, headers) of all requests."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[Handler], object]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial_handler(self))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def at(self, path: str, answer: Callable[["Handler"], object]) -> str:
        """Answer requests for a path with `answer` from now on; return its URL."""
        self.pages[path] = answer
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self):
        self.web.asked.append((self.path, dict(self.headers)))
        try:
            self.web.pages.get(self.path, status(404))(self)
        except OSError:  # the client closed the connection, which it may do at any time
            self.close_connection = True

    def log_message(self, *args):
        return

    def send(self, code: int, body: bytes = b"", **headers: object) -> None:
        """Send a whole answer. headers: "_" becomes "-", Content_Length overrides the true length, None is omitted."""
        self.begin(code, **{"Content_Length": len(body), **headers})
        self.wfile.write(body)

    def begin(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def cut(self) -> None:
        """Break the connection."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    @property
    def start(self) -> int:
        """The start of the requested Range, 0 without one."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0


def partial_handler(web: Web) -> type[Handler]:
    return type("Bound", (Handler,), {"web": web})


def status(code: int, body: bytes = b"", **headers: object) -> Callable[[Handler], object]:
    return lambda handler: handler.send(code, body, **headers)


def honest(content: bytes, etag: str | None = ETAG, cut_at: Callable[[int], int] | None = None, cut: bool = True):
    """Answer like a correct server, with Range and If-Range; cut_at(start) returns where each answer is cut."""

    def answer(handler: Handler) -> None:
        start = handler.start
        if start and handler.headers.get("If-Range") != etag:
            start = 0
        if start >= len(content) and start:
            handler.send(416, Content_Range=f"bytes */{len(content)}")
            return
        left = content[start:]
        where = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        handler.begin(206 if start else 200, Content_Length=len(left), ETag=etag, **where)
        end = cut_at(start) if cut_at else len(content)
        handler.wfile.write(content[start:end])
        if end < len(content) and cut:
            handler.cut()

    return answer


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip file of {name: content}."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar.gz file of members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form, compresslevel=1) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def plain(name: str, content: bytes = b"picture", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    """Return a tar member; more: attributes of its TarInfo (type, linkname, mode, ...)."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def zeros(megabytes: int, head: bytes = b"") -> bytes:
    """Return a gzip file of `head` and many zeros; it is quick to build, but its checksum is wrong."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + first + block * megabytes + packer.flush() + bytes(8)


def serve(web, folder, at="/data"):
    """Serve the files of a folder from an honest server; return the folder's address."""
    for path in folder.iterdir():
        address = web.at(f"{at}/{path.name}", honest(path.read_bytes()))
    return address.rpartition("/")[0]

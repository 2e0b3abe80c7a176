"""Draw with a generator in the browser: python scripts/draw.py opens the page of examples/draw.

The page is written by scripts/export.py --format web; --page opens another one. ONNX Runtime's files come from npm once
and stay in the user's cache; no other package is needed, and nothing leaves this machine.
"""

import functools
import sys
import webbrowser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import run_command
from cli.script import Command
from inference.export.web_runtime import runtime_files
from util.errors import DataError, EnvironmentFault, print_line

PAGE = ROOT / "examples" / "draw"


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a page, and ONNX Runtime's below runtime/ where the page has none."""

    def __init__(self, *args, runtime: dict[str, Path], **kwargs):
        self.runtime = runtime
        super().__init__(*args, **kwargs)

    def translate_path(self, path: str) -> str:
        """Return the file of an address."""
        file = Path(super().translate_path(path))
        name = unquote(urlsplit(path).path).removeprefix("/runtime/")
        return str(self.runtime[name] if not file.exists() and name in self.runtime else file)

    def log_message(self, *args) -> None:
        """Print no line for each request."""


def make_parser() -> Command:
    """Return the command-line parser."""
    parser = Command(__file__, __doc__)
    parser.add_argument("--page", metavar="FOLDER", default=str(PAGE), help="its folder (default: examples/draw)")
    parser.add_argument("--port", type=int, default=8000, help="port of this machine; 0: a free one (default: 8000)")
    parser.add_switch("--no_browser", "print the address alone")
    return parser


def main(argv, report):
    """Serve a page until Ctrl-C."""
    o = make_parser().parse_argv(argv)
    folder = Path(o.page)
    if not (folder / "generator.onnx").is_file():
        why = "holds no page of a generator" if folder.is_dir() else "there is no such folder"
        why = "is a file; name the folder that it is in" if folder.is_file() else why
        raise DataError("folder", folder, why, "write one: python scripts/export.py --name NAME --format web")
    runtime = {} if (folder / "runtime").is_dir() else {file.name: file for file in runtime_files()}
    handler = functools.partial(Handler, runtime=runtime, directory=str(folder))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", o.port), handler)
    except (OSError, OverflowError) as problem:
        why = f"cannot be used ({getattr(problem, 'strerror', '') or 'ports are 0 to 65535'})"
        raise EnvironmentFault("port", o.port, why, "choose another with --port") from problem
    address = f"http://localhost:{server.server_port}"
    print_line(f"{address} shows the page; Ctrl-C ends it")
    if not o.no_browser:
        webbrowser.open(address)
    with server:
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))

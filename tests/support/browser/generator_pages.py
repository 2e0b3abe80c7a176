"""Open the page of a generator in a browser, from a server of static files."""

import functools
import http.server
import threading
from contextlib import contextmanager

import numpy as np

PIXELS = """selector => {
  const canvas = document.querySelector(selector);
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [image.height, image.width, [...image.data]];
}"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def opened(browser, folder, **settings):
    """Yield a page that shows a folder's index.html, loaded with its generator; other addresses cannot be reached."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    page = browser.new_page(accept_downloads=True, **settings)
    problems, here = [], f"http://127.0.0.1:{server.server_port}/"
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.route("**", lambda route: route.continue_() if route.request.url.startswith((here, "blob:", "data:"))
               else route.abort())  # fmt: skip
    try:
        page.goto(here)
        page.wait_for_selector("body[data-ready]")
        yield page
        assert problems == []
    finally:
        page.close()
        server.shutdown()
        server.server_close()
        thread.join()


def pixels(page, selector):
    """Return a canvas as uint8 (H, W, 3)."""
    height, width, values = page.evaluate(PIXELS, selector)
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)[:, :, :3]


def after_translation(page, act):
    """Run `act`, then wait until the page shows a result for what it did last."""
    page.evaluate(
        """() => { window.shown = 0; document.addEventListener("translated", () => { window.shown += 1; }); }"""
    )
    act()
    page.wait_for_function("() => window.shown > 0")
    page.wait_for_function("() => document.body.dataset.busy !== 'true'")

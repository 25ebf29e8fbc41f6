"""A headless Firefox on one page, which reports by POST. Playwright can't drive Debian's."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

_REPORT = """
<script type="module">
  const canvas = () => document.querySelector(".rfb-canvas");
  const report = () => {
    const copy = new OffscreenCanvas(canvas().width, canvas().height);
    const context = copy.getContext("2d");
    context.drawImage(canvas(), 0, 0);
    const { width, height, data } = context.getImageData(0, 0, copy.width, copy.height);
    fetch("/report", { method: "POST", body: JSON.stringify({ width, height, data: [...data] }) });
  };
  setInterval(() => canvas()?.classList.contains("rfb-has-picture") && report(), 250);
</script>
"""


@contextmanager
def firefox(html: str, widget: bytes) -> Iterator[Queue[dict[str, Any]]]:
    """Firefox showing *html*, a page of `pages.PAGE`; what its canvas shows, four times a second."""
    reports: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script = self.path == "/widget.js"
            body = widget if script else (html + _REPORT).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if script else "text/html")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    assert FIREFOX
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        command = [FIREFOX, "--headless", "--no-remote", "--profile", profile]
        browser = subprocess.Popen(
            [*command, f"http://127.0.0.1:{server.server_port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield reports
        finally:
            browser.terminate()
            browser.wait(60)
            server.shutdown()
            server.server_close()

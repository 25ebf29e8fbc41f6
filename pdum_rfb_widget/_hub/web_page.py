"""The web page of the hub's port, which shows one stream, and the JavaScript bundle that it loads."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from pathlib import Path

from websockets.datastructures import Headers
from websockets.http11 import Response

BUNDLE = Path(__file__).parents[1] / "static" / "widget.js"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Remote framebuffer</title>
<style>
  :root { color-scheme: light dark }
  body { margin: 0; height: 100dvh; background: light-dark(#f4f5f7, #101214) }
  #stage { height: 100% }
</style>
<div id="stage"></div>
<script type="module">
  import { RemoteFramebufferView } from "./widget.js";
  const stream = new URLSearchParams(location.search).get("stream") || "default";
  const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
  const url = location.origin.replace(/^http/, "ws") + "/" + encodeURIComponent(stream);
  window.view = new RemoteFramebufferView(document.getElementById("stage"), {
    url, token, showToolbar: true, showStats: false, touch: "always",
  });
</script>
</html>
"""


def bundle() -> str:
    """The JavaScript bundle. Raises `FileNotFoundError` that says how to build it."""
    try:
        return BUNDLE.read_text("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{BUNDLE.name} was not built: install the package with pip, or run 'pip install -e .' in the checkout"
        ) from None


def asset(path: str) -> Response | None:
    """The page or the bundle, open to everyone as neither holds a secret; None for another path."""
    if path == "/":
        return response(_PAGE, "text/html")
    if path == "/widget.js":
        return response(_bundle_once(), "text/javascript")
    return None


def response(text: str, mime: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    body = text.encode()
    headers = Headers(
        {
            "Content-Type": f"{mime}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)


@cache
def _bundle_once() -> str:
    return bundle()

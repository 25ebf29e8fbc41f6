"""A notebook's server of the test's own making: it serves a page with our widget, and leads to a hub as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page
from websockets.utils import accept_key

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hub.web_page import BUNDLE

LEAD = "lead"
"""What a rule answers for: pass the WebSocket on to the hub."""

SILENCE = "silence"
"""Open the WebSocket and say nothing there until it is closed, as a proxy does whose other end is stuck."""

Answer = tuple[int, str, str] | str
"""Status, type and body, or one of the above."""

NOT_FOUND = (404, "text/html", "<h1>404 : Not Found</h1>")

_CLOSE = 0x88

_PAGE = """<!doctype html><style>body {{ margin: 0 }} .cell {{ width: 600px; height: 400px }}</style>
<script id="jupyter-config-data" type="application/json">{{"baseUrl": "/base/"}}</script>
<div id="one" class="cell"></div><div id="two" class="cell"></div>
<script type="module">
  import widget from "/widget.js";
  const listeners = {{}};
  const heard = (name, value) => [...(listeners[name] ?? [])].forEach((heed) => heed(value));
  const traits = {traits};
  window.kernel = {{
    traits, sent: [], told: [], dirty: {{}},
    change: (changes) => {{
      Object.assign(traits, changes);
      for (const name of Object.keys(changes)) heard(`change:${{name}}`);
    }},
    say: (message) => heard("msg:custom", message),
  }};
  const model = {{
    get: (name) => traits[name],
    set: (name, value) => {{
      const changed = traits[name] !== value;
      traits[name] = kernel.dirty[name] = value;
      if (changed) heard(`change:${{name}}`);
    }},
    save_changes: () => {{ kernel.told.push(kernel.dirty); kernel.dirty = {{}}; }},
    send: ({{ type, ...content }}) => {{
      // As the kernel does, which then tells the page of it.
      if (type === "status") Object.assign(traits, content);
      else kernel.sent.push({{ type, ...content }});
    }},
    on: (name, heed) => (listeners[name] ??= new Set()).add(heed),
    off: (name, heed) => listeners[name]?.delete(heed),
  }};
  widget.initialize({{ model }});
  window.render = (id, signal) => widget.render({{ model, el: document.getElementById(id), signal }});
  window.listening = () => Object.values(listeners).reduce((sum, set) => sum + set.size, 0);
  window.cleanup = render("one");
</script>
"""


def traits_of(display: rfb.Display, **traits: Any) -> dict[str, Any]:
    """What the page learns of *display*, as the kernel sends it."""
    widget = display.widget(**traits)
    return {name: getattr(widget, name) for name in widget.keys if not name.startswith("_") and name != "layout"}


class Site:
    """Serves the widget at `url`, and `rule(path)` says what becomes of every other request. A context manager."""

    def __init__(
        self, traits: dict[str, Any], rule: Callable[[str], Answer] = lambda _: NOT_FOUND, port: int = 0
    ) -> None:
        self.traits = traits
        self.rule = rule
        self.headers = ""
        self.hub_port = port
        self.paths: list[str] = []
        """What was asked for, but for the page."""
        self.open = 0
        """Connections that lead to the hub, or into silence."""
        self.deaf = False
        """Pass nothing on any more, on connections that are open too."""
        self._ways: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Site:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "0.0.0.0", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def show(self, page: Page, host: str = "127.0.0.2", query: str = "") -> None:
        """Open the page; by default it is one that doesn't look like this machine's own."""
        page.goto(f"http://{host}:{self.port}/{query}")

    def cut(self) -> None:
        """Break all connections."""
        self._do(self._cut())

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _cut(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        bare = path.partition("?")[0]
        if bare in ("/", "/widget.js", "/favicon.ico"):
            script = bare == "/widget.js"
            html = _PAGE.format(traits=json.dumps(self.traits)) if bare == "/" else ""
            body = BUNDLE.read_bytes() if script else html.encode()
            return await _say(writer, 200, "text/javascript" if script else "text/html", body, self.headers)
        self.paths.append(path)
        answer = self.rule(path)
        if answer not in (LEAD, SILENCE):
            status, kind, text = answer  # type: ignore[misc]
            return await _say(writer, int(status), kind, text.encode(), "")
        self.open += 1
        try:
            if answer == LEAD:
                await self._lead(path, head, reader, writer)
            else:
                key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
                upgrade = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                writer.write(f"{upgrade}Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode())
                while (data := await reader.read(4096)) and data[0] != _CLOSE:
                    pass
        finally:
            self.open -= 1

    async def _lead(self, path: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", self.hub_port)
        stream = path.partition("?")[0].rpartition("/")[2]
        hub_writer.write(head.replace(path.encode(), f"/{stream}".encode(), 1))
        try:
            ends = [asyncio.create_task(self._pass_on(*way)) for way in ((reader, hub_writer), (hub_reader, writer))]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
        finally:
            hub_writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.deaf:
                writer.write(data)
                await writer.drain()


async def _say(writer: asyncio.StreamWriter, status: int, kind: str, body: bytes, headers: str) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}{headers}Connection: close\r\n\r\n".encode() + body)
    await writer.drain()

"""The Jupyter Server extension: a hub proxy inside the server that the page came from.

A plain install enables it, by ``etc/jupyter/jupyter_server_config.d/pdum_rfb_widget.json``, in JupyterLab, Notebook,
JupyterHub's single-user servers, nbclassic and Voila as an extension. It authenticates and authorizes as Jupyter does,
by cookie, token or identity provider, and respects its ``allow_origin``. Then it forwards bytes both ways unchanged,
which preserves messages of any size, close codes and backpressure.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import HTTPError

from ._hosts import hub_proxy
from ._hosts.hub_proxy import Refusal


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    base = re.escape(serverapp.web_app.settings["base_url"])
    pattern = url_path_join(base, hub_proxy.PREFIX, "([^/]+)", "([^/]+)")
    serverapp.web_app.add_handlers(".*$", [(pattern, RouteHandler)])
    serverapp.log.info("pdum_rfb_widget leads pages to the hubs of their kernels")


load_jupyter_server_extension = _load_jupyter_server_extension


class RouteHandler(WebSocketMixin, JupyterHandler):
    """Connects a page to a stream, or tells it whether the hub can be reached."""

    async def get(self, hub: str, stream: str) -> None:
        if not self.current_user:
            raise HTTPError(403, "log in to this server first")
        if not self.check_origin():
            raise HTTPError(403, "pages from another origin may not come through this server")
        await self._lead(hub, stream)

    # Input to a stream can do anything that the code behind it does, so it needs the right to execute.
    @authorized(action="execute", resource="kernels")  # type: ignore[untyped-decorator]
    async def _lead(self, hub: str, stream: str) -> None:
        try:
            await self._connect(hub, stream)
        except Refusal as refusal:
            raise HTTPError(refusal.status, refusal.sentence) from None

    async def _connect(self, hub: str, stream: str) -> None:
        found = hub_proxy.look_up(hub, stream)
        reader, writer = await hub_proxy.connect(found)
        with contextlib.closing(writer):
            asked = self.request.headers
            if not hub_proxy.is_upgrade(asked):
                await hub_proxy.ask(reader, writer, "/health", {"Host": "localhost", "Connection": "close"})
                if stream != "health":
                    raise hub_proxy.NO_UPGRADE
                self._say(200, "ok")
                return
            head = hub_proxy.upgrade_head(asked, found, self.request.remote_ip or "")
            status, answer = await hub_proxy.ask(reader, writer, hub_proxy.target_of(stream), head)
            if status != 101:
                raise Refusal(502, f"the hub answered the handshake with {status}")
            stream_of_page = self.detach()
            stream_of_page.set_nodelay(True)
            await _splice(stream_of_page, answer, reader, writer)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Respond with a sentence that pages can show unchanged."""
        error = kwargs.get("exc_info", (None, None))[1]
        sentence = error.log_message if isinstance(error, HTTPError) and error.log_message else self._reason
        self._say(status_code, sentence)

    def _say(self, status: int, sentence: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(f"{sentence}\n")


async def _splice(page: IOStream, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward bytes both ways until either side closes, first the hub's *answer* to the handshake. Each write is
    awaited, so that a side that doesn't read slows the other and nothing accumulates here."""

    async def to_page() -> None:
        data = answer
        while data:
            await page.write(data)
            data = await reader.read(hub_proxy.CHUNK)

    async def to_hub() -> None:
        while True:
            writer.write(await page.read_bytes(hub_proxy.CHUNK, partial=True))
            await writer.drain()

    ways = {asyncio.ensure_future(to_page()), asyncio.ensure_future(to_hub())}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        results = await asyncio.gather(*ways, return_exceptions=True)
        page.close()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (StreamClosedError, OSError)):
            raise result

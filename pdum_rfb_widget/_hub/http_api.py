"""The HTTP API of the hub's port: its page for everyone; metrics and recorded events for anyone with the token."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from ..auth import host_allowed, origin_allowed, same_token
from ..metrics import PROMETHEUS, prometheus_text
from . import web_page
from .admission import DEFAULT_STREAM, Admission
from .stream import Stream

Figures = list[dict[str, Any]]


class HttpApi:
    """The HTTP API of one hub, on the hub's loop."""

    def __init__(self, admission: Admission, streams: Mapping[str, Stream], clock: Callable[[], float]) -> None:
        self._admission = admission
        self._streams = streams
        self._clock = clock
        self.routes: dict[tuple[str, str], Callable[[Stream | None], Any]] = {
            ("GET", "/streams"): lambda _: [_describe(stream) for stream in streams.values()],
            ("GET", "/metrics"): lambda _: self._figures(streams.values()),
            ("GET", "/streams/{}/metrics"): lambda stream: self._figures([stream] if stream else []),
            ("GET", "/recorded-events"): self._recorded,
            ("GET", "/streams/{}/recorded-events"): self._recorded,
            ("POST", "/recorded-events/reset"): self._reset,
            ("POST", "/streams/{}/recorded-events/reset"): self._reset,
        }
        """Method and path of every resource that needs the token; ``{}`` is a stream's name, ``default`` if absent."""

    def __call__(self, request: Request, *, by_route: bool = False) -> Response | None:
        """The response to *request*; None for a request that opens a WebSocket."""
        if "Upgrade" in request.headers:
            return None
        path, _, query = request.path.partition("?")
        method = getattr(request, "method", "GET")  # older websockets refuse any other themselves
        if method == "HEAD":
            answer = self._answer("GET", path, query, request.headers, by_route=by_route)
            return replace(answer, body=b"")
        return self._answer(method, path, query, request.headers, by_route=by_route)

    def _answer(self, method: str, path: str, query: str, headers: Headers, *, by_route: bool) -> Response:
        if method == "GET" and path == "/health":
            return respond(HTTPStatus.OK, "ok\n")
        if not by_route and (refusal := self._foreign(headers)):
            return respond(HTTPStatus.FORBIDDEN, refusal)
        if method == "GET" and (asset := web_page.asset(path)):
            return asset
        if not self._known(headers, query):
            return respond(HTTPStatus.UNAUTHORIZED, "the token is missing or not this hub's\n")
        return self._found(method, unquote(path), _header(headers, "Accept") or "")

    def _foreign(self, headers: Headers) -> str:
        """The reason to refuse a page that sends these headers; empty if it is allowed."""
        origin, host = _header(headers, "Origin"), _header(headers, "Host")
        if not origin_allowed(origin, host, self._admission.origins):
            return f"pages from {origin} may not ask this hub\n"
        if not host_allowed(host, self._admission.origins):
            return f"this hub does not know the name {host}; pass origins=['http://{host}'] to allow it\n"
        return ""

    def _known(self, headers: Headers, query: str) -> bool:
        given = [
            *(value.removeprefix("Bearer ") for value in headers.get_all("Authorization")),
            *parse_qs(query).get("token", []),
        ]
        return any(same_token(token, self._admission.token) for token in given)

    def _found(self, method: str, path: str, accept: str) -> Response:
        named = re.match(r"/streams/([^/]+)(/.+)", path)
        stream = self._streams.get(named[1] if named else DEFAULT_STREAM)
        route = f"/streams/{{}}{named[2]}" if named else path
        methods = [allowed for allowed, known in self.routes if known == route]
        if not methods or (named and not stream):
            return respond(HTTPStatus.NOT_FOUND, "there is nothing here\n")
        if method not in methods:
            return respond(HTTPStatus.METHOD_NOT_ALLOWED, f"this is asked with {' or '.join(methods)}\n")
        found = self.routes[method, route](stream)
        if route.endswith("metrics") and _wants_text(accept):
            return web_page.response(prometheus_text(found), PROMETHEUS)
        return web_page.response(json.dumps(found), "application/json")

    def _figures(self, streams: Iterable[Stream]) -> Figures:
        now = self._clock()
        return [
            {"stream": stream.name, "client_id": viewer.id} | viewer.session.snapshot(now)
            for stream in streams
            for viewer in stream.viewers
        ]

    def _recorded(self, stream: Stream | None) -> list[Any]:
        return stream.recorded_events if stream else []

    def _reset(self, stream: Stream | None) -> dict[str, bool]:
        if stream:
            stream.forget_recorded_events()
        return {"ok": True}


def _header(headers: Headers, name: str) -> str | None:
    """The values of all headers *name*, joined by commas; None if there are none."""
    values = headers.get_all(name)
    return ", ".join(values) if values else None


def _describe(stream: Stream) -> dict[str, Any]:
    width, height = stream.size
    return dict(name=stream.name, width=width, height=height, fps=stream.options.fps, clients=len(stream.viewers))


def _wants_text(accept: str) -> bool:
    return "application/json" not in accept and ("text/plain" in accept or "openmetrics" in accept)


def respond(status: HTTPStatus, text: str) -> Response:
    return web_page.response(text, "text/plain", status)

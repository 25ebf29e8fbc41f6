"""The inside of a display, for what no public figure shows: no other module of the tests reads private attributes.

`Display.status`, the metrics over HTTP and a viewer of the wire come first.
"""

from __future__ import annotations

import pdum_rfb_widget as rfb
from pdum_rfb_widget import server
from pdum_rfb_widget._core.stream import StreamCore
from pdum_rfb_widget._hub.hub import Hub
from pdum_rfb_widget._hub.publication import Publication
from pdum_rfb_widget._hub.stream import Stream


def hub_of(owner: rfb.Display | rfb.Server) -> Hub:
    """The hub, with its loop, admission and listeners."""
    return (owner.server if isinstance(owner, rfb.Display) else owner)._hub


def stream_of(display: rfb.Display) -> Stream:
    """The stream, which outlives the displays that publish into it."""
    return display._stream


def core_of(display: rfb.Display) -> StreamCore:
    """The stream's state machine."""
    return stream_of(display).core


def publication_of(display: rfb.Display) -> Publication:
    """The display's own use of its stream: its callbacks and its readiness."""
    return display._publication


def close_hub() -> None:
    """Close the process's hub if there is one."""
    if server._server:
        server._server.close()

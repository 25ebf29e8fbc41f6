"""A remote framebuffer for notebooks: render pixels in Python, see them live in a cell, get the input back.

``display = rfb.serve(1280, 720)``, ``display.publish(array)`` from anywhere, ``display.widget()`` in a cell.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .display import Display
    from .notebook import RfbCanvas, RfbViewer, publish_loop
    from .recording import Recording
    from .server import Server, serve, serve_server
    from .types import InputEvent, StreamOptions

__all__ = [
    "Display",
    "InputEvent",
    "Recording",
    "RfbCanvas",
    "RfbViewer",
    "Server",
    "StreamOptions",
    "publish_loop",
    "serve",
    "serve_server",
]

_HOMES = {
    "Display": "display",
    "InputEvent": "types",
    "Recording": "recording",
    "RfbCanvas": "notebook",
    "RfbViewer": "notebook",
    "Server": "server",
    "StreamOptions": "types",
    "publish_loop": "notebook",
    "serve": "server",
    "serve_server": "server",
}


def __getattr__(name: str) -> Any:
    # Loaded when first used: the widgets need anywidget, which a script without a notebook need not import.
    if home := _HOMES.get(name):
        return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

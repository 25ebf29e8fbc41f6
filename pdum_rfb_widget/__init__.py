"""A remote framebuffer for notebooks: render pixels in Python, see them live in a cell, get the input back.

``display = rfb.serve(1280, 720)``, ``display.publish(array)`` from anywhere, ``display.widget()`` in a cell.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .auth import AuthContext, Authenticator, Principal, ViewOnly
    from .display import Display
    from .encoders.base import available_video_encoders, build_encoder, register_video_encoder
    from .encoders.h264_cpu import H264CpuEncoder, h264_available
    from .encoders.image import ImageEncoder
    from .events import Event
    from .limits import Limits
    from .metrics import SessionMetrics
    from .notebook import RfbCanvas, RfbViewer, publish_loop
    from .protocol import UnsupportedClient, pack_binary_message, select_transport, unpack_binary_message
    from .recording import Recording
    from .server import Server, serve, serve_server
    from .snapshot import Snapshot
    from .transport import Channel, WebSocketTransport
    from .types import (
        DISPLAY_P3,
        SRGB,
        BackendSelection,
        ChannelMessage,
        ColorSpace,
        DownscaleHint,
        EncodedPayload,
        EncoderBackend,
        InputEvent,
        RawFrame,
        StreamOptions,
    )

__all__ = [
    "DISPLAY_P3",
    "SRGB",
    "AuthContext",
    "Authenticator",
    "BackendSelection",
    "Channel",
    "ChannelMessage",
    "ColorSpace",
    "Display",
    "DownscaleHint",
    "EncodedPayload",
    "EncoderBackend",
    "Event",
    "H264CpuEncoder",
    "ImageEncoder",
    "InputEvent",
    "Limits",
    "Principal",
    "RawFrame",
    "Recording",
    "RfbCanvas",
    "RfbViewer",
    "Server",
    "SessionMetrics",
    "Snapshot",
    "StreamOptions",
    "UnsupportedClient",
    "ViewOnly",
    "WebSocketTransport",
    "available_video_encoders",
    "build_encoder",
    "h264_available",
    "pack_binary_message",
    "publish_loop",
    "register_video_encoder",
    "select_transport",
    "serve",
    "serve_server",
    "unpack_binary_message",
]

_HOMES = {
    "DISPLAY_P3": "types",
    "SRGB": "types",
    "AuthContext": "auth",
    "Authenticator": "auth",
    "BackendSelection": "types",
    "Channel": "transport",
    "ChannelMessage": "types",
    "ColorSpace": "types",
    "Display": "display",
    "DownscaleHint": "types",
    "EncodedPayload": "types",
    "EncoderBackend": "types",
    "Event": "events",
    "H264CpuEncoder": "encoders.h264_cpu",
    "ImageEncoder": "encoders.image",
    "InputEvent": "types",
    "Limits": "limits",
    "Principal": "auth",
    "RawFrame": "types",
    "Recording": "recording",
    "RfbCanvas": "notebook",
    "RfbViewer": "notebook",
    "Server": "server",
    "SessionMetrics": "metrics",
    "Snapshot": "snapshot",
    "StreamOptions": "types",
    "UnsupportedClient": "protocol",
    "ViewOnly": "auth",
    "WebSocketTransport": "transport",
    "available_video_encoders": "encoders.base",
    "build_encoder": "encoders.base",
    "h264_available": "encoders.h264_cpu",
    "pack_binary_message": "protocol",
    "publish_loop": "notebook",
    "register_video_encoder": "encoders.base",
    "select_transport": "protocol",
    "serve": "server",
    "serve_server": "server",
    "unpack_binary_message": "protocol",
}


def __getattr__(name: str) -> Any:
    # Loaded when first used: the widgets need anywidget, which a script without a notebook need not import.
    if home := _HOMES.get(name):
        if name in ("serve", "serve_server") and sys.platform == "emscripten":
            return _needs_a_process  # what they import may be missing there
        return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _needs_a_process(*_: Any, **__: Any) -> NoReturn:
    from ._hosts.discovery import NO_PROCESS

    raise RuntimeError(NO_PROCESS)


def __dir__() -> list[str]:
    return sorted(__all__)

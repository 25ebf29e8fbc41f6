"""A remote framebuffer for notebooks: render pixels in Python, see them live in a cell, get the input back.

``display = rfb.serve(1280, 720)``, ``display.publish(array)`` from anywhere, ``display.widget()`` in a cell.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auth import AuthContext, Authenticator, Principal, ViewOnly
    from .display import Display
    from .encoders.base import available_video_encoders, build_encoder, register_video_encoder
    from .encoders.h264_cpu import H264CpuEncoder, h264_available
    from .encoders.image import ImageEncoder
    from .limits import Limits
    from .metrics import SessionMetrics
    from .notebook import RfbCanvas, RfbViewer, publish_loop
    from .recording import Recording
    from .server import Server, serve, serve_server
    from .snapshot import Snapshot
    from .types import (
        DISPLAY_P3,
        SRGB,
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
    "ColorSpace",
    "Display",
    "DownscaleHint",
    "EncodedPayload",
    "EncoderBackend",
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
    "ViewOnly",
    "available_video_encoders",
    "build_encoder",
    "h264_available",
    "publish_loop",
    "register_video_encoder",
    "serve",
    "serve_server",
]

_HOMES = {
    "ViewOnly": "auth",
    "SessionMetrics": "metrics",
    "Principal": "auth",
    "Limits": "limits",
    "Authenticator": "auth",
    "AuthContext": "auth",
    "DISPLAY_P3": "types",
    "SRGB": "types",
    "ColorSpace": "types",
    "Display": "display",
    "DownscaleHint": "types",
    "EncodedPayload": "types",
    "EncoderBackend": "types",
    "H264CpuEncoder": "encoders.h264_cpu",
    "ImageEncoder": "encoders.image",
    "InputEvent": "types",
    "RawFrame": "types",
    "Recording": "recording",
    "RfbCanvas": "notebook",
    "RfbViewer": "notebook",
    "Server": "server",
    "Snapshot": "snapshot",
    "StreamOptions": "types",
    "available_video_encoders": "encoders.base",
    "build_encoder": "encoders.base",
    "h264_available": "encoders.h264_cpu",
    "publish_loop": "notebook",
    "register_video_encoder": "encoders.base",
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

"""Names in the protocol: capabilities, image types and channels."""

from __future__ import annotations

import re

from ..types import ImageMode, VideoFormat

TILES = "rfb/tiles"
"""The capability of viewers that take several rectangles in a message."""

PROOF = "rfb/proof"
"""The capability of viewers that let a hub prove itself before they send their token."""

CHANNELS = "rfb/channels"
"""The capability of viewers that take an application's messages, a cursor, and large messages in pieces."""

CLIPBOARD = "rfb/clipboard"
"""The capability of viewers that write their user's clipboard and report what is pasted."""

VIDEO = {
    "webcodecs/h264-annexb": VideoFormat("h264", "420"),
    "rfb/h264-444": VideoFormat("h264", "444"),
    "rfb/h264-rgb": VideoFormat("h264", "rgb"),
    "rfb/vp9": VideoFormat("vp9", "420"),
    "rfb/av1": VideoFormat("av1", "420"),
}
"""The capabilities of viewers that decode video, and the format that each stands for."""

MIMES: dict[ImageMode, str] = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

CHANNEL_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}")


def check_channel(name: object) -> None:
    """Raises `ValueError` for a name that an application's channel can't have."""
    if not isinstance(name, str) or not CHANNEL_NAME.fullmatch(name):
        raise ValueError(f"a channel's name is 1 to 64 letters, digits, '.', '_', '~' or '-', not {name!r}")

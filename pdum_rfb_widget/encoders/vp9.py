"""VP9 by libvpx, where bytes matter more than processor time."""

from __future__ import annotations

from typing import ClassVar

from ..types import Chroma
from .bitstream import vp9_codec_string
from .video import VideoEncoder


class Vp9Encoder(VideoEncoder):
    """VP9 of profile 0, 4:2:0, without delay: every frame gives one payload, and is shown. See `VideoEncoder`.

    The stream says its matrix but no primaries, and Chromium believes neither: the decoder must be told.
    """

    LIBRARIES: ClassVar[dict[Chroma, str]] = {"420": "libvpx-vp9"}

    def _options(self) -> dict[str, str]:
        quantizer = str(min(max(self.quality, 0), 63))
        return {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "error-resilient": "0",
            "crf": quantizer,
            "qmin": quantizer,
            "qmax": quantizer,
            "b": "0",
            "g": "999999",
            "row-mt": "1",
            "tile-columns": "1",
            "aq-mode": "0",
        }

    def _name(self, keyframe: bytes) -> str:
        return vp9_codec_string(self.width, self.height, self._fps)

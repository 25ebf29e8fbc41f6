"""VP9 by libvpx, where bytes matter more than processor time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..types import Chroma
from .bitstream import vp9_codec_string
from .video import VideoEncoder

_SAME_PSNR = ((0, 9, 14, 17.5, 22.5, 27, 33, 39, 46), (1, 2, 6, 10, 20, 30, 40, 51, 63))
"""H.264's QP, and the quantizer, 0 to 63, with the same PSNR: measured on renders, terrain, plots and points."""


class Vp9Encoder(VideoEncoder):
    """VP9 of profile 0, 4:2:0, without delay: every frame gives one payload, and is shown. See `VideoEncoder`.

    The stream names its matrix but no primaries, and Chromium trusts neither: the decoder must be told.
    """

    LIBRARIES: ClassVar[dict[Chroma, str]] = {"420": "libvpx-vp9"}

    def _options(self) -> dict[str, str]:
        quantizer = str(round(np.interp(self.quality, *_SAME_PSNR)))
        return {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "error-resilient": "0",
            "crf": quantizer,
            "qmin": quantizer,
            "qmax": quantizer,
            "b": "0",  # the quantizer alone decides
            "g": "999999",
            "row-mt": "1",
            "tile-columns": "1",
            "aq-mode": "0",
        }

    def _name(self, keyframe: bytes) -> str:
        return vp9_codec_string(self.width, self.height, self._fps)

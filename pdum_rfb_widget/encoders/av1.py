"""AV1 by SVT-AV1, where bytes matter most."""

from __future__ import annotations

from typing import ClassVar

from ..types import Chroma
from .bitstream import av1_codec_string
from .video import VideoEncoder


class Av1Encoder(VideoEncoder):
    """AV1 main profile, 4:2:0, low delay. See `VideoEncoder`."""

    LIBRARIES: ClassVar[dict[Chroma, str]] = {"420": "libsvtav1"}
    SMALLEST: ClassVar[int] = 4

    def _options(self) -> dict[str, str]:
        params = {"pred-struct": "1", "lookahead": "0", "rtc": "1", "lp": "1", "force-key-frames": "1", "scd": "0"}
        return {
            "preset": "12",
            "crf": str(min(max(self.quality, 1), 63)),
            "g": "-1",
            "svtav1-params": ":".join(f"{name}={value}" for name, value in params.items()),
        }

    def _name(self, keyframe: bytes) -> str:
        return av1_codec_string(keyframe)

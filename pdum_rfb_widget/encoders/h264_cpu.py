"""H.264 by libx264, in three kinds: 4:2:0 for every viewer, 4:4:4 for sharp colour, RGB for exactness."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np

from ..types import Chroma, ColorSpace, RawFrame
from .bitstream import codec_string
from .pictures import color_tags, import_av
from .video import VideoEncoder, has_codec

_X264_PARAMS = {
    "keyint": "infinite",  # nobody gains from keyframes that were not asked for
    "scenecut": "0",
    "bframes": "0",
    "aud": "0",
}


@cache
def h264_cpu_available() -> bool:
    """True if PyAV is installed and has libx264."""
    return has_codec("libx264")


def h264_available() -> bool:
    """True if this machine can encode H.264."""
    return h264_cpu_available()


def h264_color_vui(color: ColorSpace | None, chroma: Chroma = "420") -> tuple[int, int, int, int]:
    """Returns the SPS's tags of *color*: primaries, transfer and matrix as in ITU-T H.273, range 1 limited or 2 full.

    Always tagged: what an untagged stream means is not the same in all browsers.
    """
    return color_tags(color, chroma)


class H264CpuEncoder(VideoEncoder):
    """Annex B access units by libx264, without delay and without B-frames; each IDR brings its SPS and PPS.

    *quality* is the constant QP. With *chroma* ``rgb`` 0 is lossless; in ``420`` and ``444`` it counts as 1, since no
    browser decodes 4:2:0 in the lossless profile. See `VideoEncoder` for the rest.
    """

    LIBRARIES: ClassVar[dict[Chroma, str]] = {"420": "libx264", "444": "libx264", "rgb": "libx264rgb"}

    def _options(self) -> dict[str, str]:
        qp = self.quality if self._chroma == "rgb" else max(1, self.quality)
        params = ":".join(f"{name}={value}" for name, value in _X264_PARAMS.items())
        return {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "qp": str(qp),
            "forced-idr": "1",
            "x264-params": params,
        }

    def _name(self, keyframe: bytes) -> str:
        return codec_string(keyframe)


def self_test(width: int = 64, height: int = 64, frames: int = 8) -> bool:
    """Encodes and decodes *frames* frames; True if as many return, of this size, each near to its original.

    False where PyAV or libx264 is missing.
    """
    if not h264_cpu_available():
        return False
    av = import_av()
    decoder = av.CodecContext.create("h264", "r")
    encoder = H264CpuEncoder(width=width, height=height, quality=20)
    ramp = np.linspace(0, 200, width, dtype=np.uint8)
    shown = []
    for seq in range(frames):
        pixels = np.broadcast_to(ramp + np.uint8(seq), (height, width))
        for payload in encoder.encode(RawFrame(seq, width, height, seq * 33_333, "gray8", "cpu", pixels)):
            shown += decoder.decode(av.Packet(payload.payload))
    shown += decoder.decode(None)
    encoder.close()
    return len(shown) == frames and all(
        np.abs(picture.to_ndarray(format="gray")[:height, :width].astype(int) - (ramp + seq)).mean() < 4
        for seq, picture in enumerate(shown)
    )

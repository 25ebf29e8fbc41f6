"""Output of the hub's H.264 encoders: keyframes, error, and the size of JPEGs with the same error."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from .._testing.extras import extra
from ..encoders.base import register_video_encoder
from ..encoders.h264_cpu import H264CpuEncoder
from ..encoders.image import encode_jpeg
from ..types import EncodedPayload, EncoderBackend, Pixels, RawFrame
from .content import read_stamp

_JUDGED = 4
"""Number of frames judged; at 1080p each takes a quarter of a second."""


class Tapes:
    """Payloads of encoders that ran one after another or at once, a tape for each."""

    def __init__(self) -> None:
        self._tapes: list[list[EncodedPayload]] = []
        self._begun: list[int] = []

    def add(self) -> list[EncodedPayload]:
        """A new tape for another encoder."""
        self._tapes.append([])
        return self._tapes[-1]

    def begin(self) -> None:
        """Judge only payloads from now on."""
        self._begun = [len(tape) for tape in self._tapes]

    @property
    def encoders(self) -> int:
        """Number of encoders opened: one per shared encoder and size."""
        return len(self._tapes)

    @property
    def keyframes(self) -> int:
        """Number of keyframes of all encoders since the start."""
        return sum(payload.keyframe for tape in self._tapes for payload in tape)

    def judge(self, frame: Callable[[int], Pixels], place: tuple[int, int]) -> dict[str, float | None]:
        """The mean size of an access unit in bytes, the PSNR of some, and the bytes of JPEGs with the same PSNR. Frames
        have their numbers at *place*, and *frame* returns the original with a number."""
        chosen: list[tuple[Pixels, Pixels]] = []
        sizes: list[int] = []
        opened_since = [0] * (len(self._tapes) - len(self._begun))
        for tape, start in zip(self._tapes, self._begun + opened_since, strict=True):
            sizes += [len(payload.payload) for payload in tape[start:]]
            step = max(1, (len(tape) - start) // _JUDGED)
            for picture in islice(decoded(tape), start + step - 1, None, step):
                shown = picture()
                chosen.append((shown, frame(read_stamp(shown, *place)).copy()))
        if not chosen:
            return {"video_bytes": None, "PSNR_dB": None, "jpeg_bytes": None}
        db, size = psnr(chosen), sum(sizes) / len(sizes)
        return {"video_bytes": size, "PSNR_dB": db, "jpeg_bytes": jpeg_bytes([frame for _, frame in chosen], db)}


@contextmanager
def taped() -> Iterator[Tapes]:
    """Record tapes of all H.264 encoders that this process opens inside the block."""
    tapes = Tapes()
    register_video_encoder("h264_cpu", lambda **settings: _Taped(_open(**settings), tapes.add()))
    try:
        yield tapes
    finally:
        register_video_encoder("h264_cpu", _open)


def _open(*, pipeline_depth: int, **settings: Any) -> EncoderBackend:
    return H264CpuEncoder(**settings)


class _Taped:
    """An encoder that keeps its payloads on a tape."""

    def __init__(self, encoder: EncoderBackend, tape: list[EncodedPayload]) -> None:
        self._encoder = encoder
        self._tape = tape
        self.flush, self.close = encoder.flush, encoder.close

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        payloads = self._encoder.encode(frame, force_keyframe=force_keyframe)
        self._tape += payloads
        return payloads


# How near it is -------------------------------------------------------------------------------------------------------


def decoded(tape: Sequence[EncodedPayload]) -> Iterator[Callable[[], Pixels]]:
    """For each access unit, a function that converts its picture to (height, width, 3) by swscale, doubling chroma."""
    decoder = extra("av").CodecContext.create("h264", "r")
    for payload in tape:
        (picture,) = decoder.decode(extra("av").Packet(payload.payload))
        yield partial(picture.to_ndarray, format="rgb24")


def psnr(pairs: Iterable[tuple[Pixels, Pixels]]) -> float:
    """PSNR in dB from the mean squared error over all samples of all *pairs*; infinite if there is no error."""
    error = float(np.mean([np.square(a.astype(np.int32) - b).mean() for a, b in pairs]))
    return 10 * math.log10(255**2 / error) if error else math.inf


def jpeg_bytes(frames: Sequence[Pixels], db: float) -> float:
    """The mean size of *frames* as JPEG, 4:2:0, with a PSNR of *db*, interpolated between two qualities. Beyond the
    best or the worst quality, the size at that quality."""

    def measured(quality: int) -> tuple[float, float]:
        data = [encode_jpeg(frame, quality) for frame in frames]
        shown = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in data]
        return psnr(zip(shown, frames, strict=True)), sum(map(len, data)) / len(data)

    low, high = 1, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if measured(middle)[0] >= db else (middle, high)
    (below, small), (above, large) = measured(low), measured(high)
    share = min(max((db - below) / (above - below), 0.0), 1.0) if above > below else 1.0
    return small + share * (large - small)

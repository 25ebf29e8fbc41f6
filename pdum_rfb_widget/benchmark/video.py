"""What the hub's H.264 encoders made: how many keyframes, how near to the frames, and what JPEG takes to be as near."""

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
"""Frames that are judged; at 1080p each takes a quarter of a second."""


class Tapes:
    """What encoders made, one after the other or side by side: a tape for each."""

    def __init__(self) -> None:
        self._tapes: list[list[EncodedPayload]] = []
        self._begun: list[int] = []

    def add(self) -> list[EncodedPayload]:
        """The tape of another encoder."""
        self._tapes.append([])
        return self._tapes[-1]

    def begin(self) -> None:
        """What is judged comes from here on."""
        self._begun = [len(tape) for tape in self._tapes]

    @property
    def encoders(self) -> int:
        """How many were opened: one for each lane, and for each size."""
        return len(self._tapes)

    @property
    def keyframes(self) -> int:
        """Of all that was ever made."""
        return sum(payload.keyframe for tape in self._tapes for payload in tape)

    def judge(self, frame: Callable[[int], Pixels], place: tuple[int, int]) -> dict[str, float | None]:
        """The mean size of an access unit in bytes, the PSNR of some, and the bytes of JPEGs of the same PSNR. Frames
        have their numbers at *place*, and *frame* gives that of a number."""
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
    """Tapes of all encoders of H.264 that this process opens meanwhile."""
    tapes = Tapes()
    register_video_encoder("h264_cpu", lambda **settings: _Taped(_open(**settings), tapes.add()))
    try:
        yield tapes
    finally:
        register_video_encoder("h264_cpu", _open)


def _open(*, pipeline_depth: int, **settings: Any) -> EncoderBackend:
    return H264CpuEncoder(**settings)


class _Taped:
    """An encoder that keeps what it made."""

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
    """For each access unit what converts its picture, (height, width, 3): as swscale does, which doubles chroma."""
    decoder = extra("av").CodecContext.create("h264", "r")
    for payload in tape:
        (picture,) = decoder.decode(extra("av").Packet(payload.payload))
        yield partial(picture.to_ndarray, format="rgb24")


def psnr(pairs: Iterable[tuple[Pixels, Pixels]]) -> float:
    """Of the mean squared error over all samples of all *pairs*, in dB; infinite where there is none."""
    error = float(np.mean([np.square(a.astype(np.int32) - b).mean() for a, b in pairs]))
    return 10 * math.log10(255**2 / error) if error else math.inf


def jpeg_bytes(frames: Sequence[Pixels], db: float) -> float:
    """The mean size of *frames* as JPEG, 4:2:0, where their PSNR is *db*: between two qualities in proportion. That of
    the best or the worst quality where *db* is beyond it."""

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

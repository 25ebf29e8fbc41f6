"""AV1 by SVT-AV1, where bytes matter most."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..types import Chroma, EncodedPayload, RawFrame
from .bitstream import av1_codec_string
from .video import VideoEncoder

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext

_SAME_PSNR = ((0, 9.5, 14.5, 18, 20.5, 24.5, 28, 33.5, 42), (1, 4, 10, 17, 25, 33, 41, 51, 63))
"""H.264's QP, and the rate factor, 1 to 63, with the same PSNR: measured on renders, terrain, plots and points."""

_PARAMETERS = {
    "pred-struct": "1",  # low delay: with these two each frame gives its payload at once
    "lookahead": "0",
    "rtc": "1",
    "scd": "0",
    "keyint": "-1",  # nobody gains from keyframes that were not asked for
    "force-key-frames": "1",
}

_PAUSE = 0.002
"""Seconds between an access unit and the next frame. SVT-AV1 4.1 returns an access unit before its buffers are free
again; on a busy machine a frame that follows at once may find none, and never comes out: of 64x64 frames, sent without
a pause beside three busy loops, one in about 1,000. With a pause of 1 ms none of 146,000 was lost."""


class Av1Encoder(VideoEncoder):
    """AV1 of the main profile, 4:2:0, without delay: every frame gives one payload, and is shown. See `VideoEncoder`.

    Preset 10: at 40 dB it takes 0.6 (renders), 0.3 (terrain), 0.2 (plots) and 0.9 (points) of H.264's bytes and six
    times its time; preset 12, in two thirds of that, takes more bytes than H.264 on renders.
    """

    LIBRARIES: ClassVar[dict[Chroma, str]] = {"420": "libsvtav1"}
    SMALLEST: ClassVar[int] = 64
    """With two threads SVT-AV1 hangs for ever on frames with a side shorter than 32."""

    _rested_at = 0.0

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        time.sleep(max(0.0, self._rested_at - time.monotonic()))
        payloads = super().encode(frame, force_keyframe=force_keyframe)
        self._rested_at = time.monotonic() + _PAUSE
        return payloads

    def _options(self) -> dict[str, str]:
        # SVT-AV1 writes to stderr, which may be a cell's output, about every encoder that it opens.
        os.environ.setdefault("SVT_LOG", "1")
        params = _PARAMETERS | {"lp": str(self._threads)}
        return {
            "preset": "10",
            "crf": str(round(np.interp(self.quality, *_SAME_PSNR))),
            "svtav1-params": ":".join(f"{name}={value}" for name, value in params.items()),
        }

    def _open(self, picture: VideoFrame) -> VideoCodecContext:
        codec = super()._open(picture)
        with _same_scheduling():
            codec.open()
        return codec

    def _name(self, keyframe: bytes) -> str:
        return av1_codec_string(keyframe)


_opening = threading.Lock()


@contextmanager
def _same_scheduling() -> Iterator[None]:
    """Keeps every thread of this process in the scheduling class that it had.

    As root, which is usual in containers, SVT-AV1 puts the whole process into the real-time class when an encoder is
    opened: from then on a busy cell, and all that it starts, would leave no processor to the rest of the machine.
    """
    if not os.path.isdir("/proc/self/task"):
        yield
        return
    with _opening:
        before = _policies()
        usual = os.sched_getscheduler(0), os.sched_getparam(0)
        try:
            yield
        finally:
            for thread, policy in _policies().items():
                if policy != before.get(thread, usual):
                    with suppress(OSError):  # it has ended
                        os.sched_setscheduler(thread, *before.get(thread, usual))


def _policies() -> dict[int, tuple[int, os.sched_param]]:
    """Returns the scheduling policy and its priority, by thread."""
    found = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(OSError):
            found[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
    return found

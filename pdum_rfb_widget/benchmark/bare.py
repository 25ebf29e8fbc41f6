"""The bare pipeline: the least code that shows frames in a page, which the package's figures are compared with.

A Pillow call, a WebSocket message, `createImageBitmap`, `drawImage` (in ``bare.js``), an acknowledgement. It compares
no frames, never changes the quality, and never becomes exact.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image

from .._core.policy.bandwidth import QUALITIES
from ..types import Pixels
from .harness import Socket
from .rows import ratio

QUALITY = QUALITIES[0]
"""JPEG quality, the one that ``quality="lossy"`` starts with."""
WINDOW = 2
"""Number of pictures sent and not yet acknowledged, beyond which frames are skipped."""

TO_BARE = {
    "shown_per_s": "shown_to_bare",
    "acked_unwatched_per_s": "acked_unwatched_to_bare",
    "p50_ms": "p50_to_bare",
    "publisher_ms_per_shown": "publisher_to_bare",
    "browser_ms_per_shown": "browser_to_bare",
}
"""The names of ratios, by the names of the figures that they compare."""


class BarePipeline:
    """Sends frames to the page that opened *socket*. Only for one thread at a time."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._counts = {"frames_sent": 0, "frames_acked": 0, "bytes_sent": 0}

    def publish(self, frame: Pixels) -> None:
        """Send *frame*, (height, width, 3), unless `WINDOW` pictures are on their way: then it is skipped."""
        if self.counter("frames_sent") - self.counter("frames_acked") >= WINDOW:
            return
        jpeg = io.BytesIO()
        Image.fromarray(frame).save(jpeg, "JPEG", quality=QUALITY)
        self._socket.send(jpeg.getvalue())
        self._counts["frames_sent"] += 1
        self._counts["bytes_sent"] += jpeg.tell()

    def counter(self, name: str) -> int:
        """``frames_sent``, ``frames_acked`` (drawn, that is) or ``bytes_sent``, since the start."""
        self._counts["frames_acked"] += self._socket.heard()
        return self._counts[name]


def to_bare(ours: Mapping[str, float | None], bare: Mapping[str, float | None]) -> dict[str, float | None]:
    """The ratios of *ours* to *bare*, of the figures in `TO_BARE` that *ours* has."""
    return {name: ratio(ours[figure], bare[figure]) for figure, name in TO_BARE.items() if figure in ours}

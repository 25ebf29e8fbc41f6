"""Steers a quality towards a bit rate. Pure: every access unit is an input.

A quality that stays the same takes half the time of the codecs' own rate control, and almost nothing for frames that
do not change. It can't be changed in an open encoder, so each change costs a keyframe, and is rare.
"""

from __future__ import annotations

import math
from collections import deque

FINEST, COARSEST = 16, 44
"""The range of QPs: finer ones cost bytes that nobody sees; coarser ones leave nothing to see."""

_HALVES = 6.0
"""QP increase that halves the bytes: it doubles the step of H.264's quantizer."""
_USED = 0.9
"""The share of the bit rate to aim at."""
_PATIENCE_US = 2_000_000
_TOO_LOW, _TOO_HIGH = 3.0, 1.5
"""QP error that justifies a keyframe, down and up: too many bytes are worse than too few."""
_BOLDEST = 4
"""The largest step by which the QP falls at once: slow motion may not last."""
_PAUSE_US = 100_000
"""Most microseconds that a gap between two frames counts as: a pause does not pay for a burst."""
_FEWEST = 8
"""Fewest frames that show what a quality costs."""


class RateControl:
    """The QP for a bit rate: `qp`, 0 to 51."""

    def __init__(self, bitrate: int, *, pixels: int, fps: float) -> None:
        """*bitrate* in bits a second. The first QP is a guess for frames of this many *pixels* at *fps*."""
        self._target = _USED * bitrate / 8
        self._frames: deque[tuple[int, int]] = deque()
        self._changed_at: int | None = None
        self._last_us: int | None = None
        # Moving renders take about 0.1 bits a pixel at QP 24.
        guess = 24 + _HALVES * math.log2(0.1 * pixels * fps / bitrate)
        self.qp = min(max(round(guess), 20), 38)

    def observe(self, nbytes: int, timestamp_us: int, *, keyframe: bool) -> None:
        """Records an access unit of *nbytes*. Changes `qp` at most every two seconds."""
        if self._changed_at is None:
            self._changed_at = timestamp_us
        elapsed = min(timestamp_us - self._last_us, _PAUSE_US) if self._last_us is not None else 0
        self._last_us = timestamp_us
        # Keyframes come when they are asked for: they say nothing about the frames between.
        if keyframe or not elapsed:
            return
        self._frames.append((nbytes, elapsed))
        while sum(gap for _, gap in self._frames) > _PATIENCE_US:
            self._frames.popleft()
        if timestamp_us - self._changed_at >= _PATIENCE_US and len(self._frames) >= _FEWEST:
            self._steer(timestamp_us)

    def _steer(self, now_us: int) -> None:
        nbytes, microseconds = (sum(column) for column in zip(*self._frames, strict=True))
        rate = max(1.0, nbytes) / microseconds * 1e6
        error = _HALVES * math.log2(rate / self._target)
        if -_TOO_LOW < error < _TOO_HIGH:
            return
        wanted = min(max(self.qp + max(round(error), -_BOLDEST), FINEST), COARSEST)
        if wanted != self.qp:
            self.qp, self._changed_at = wanted, now_us
            self._frames.clear()

"""Chooses a viewer's codec, and what to give up for it where the ladder of qualities isn't the answer. Pure.

- `CodecSelector` chooses between images and video, by how much moves and what the bandwidth allows.
- `Backoff` keeps a viewer that was evicted from a shared encoder away from it.
- `Degradation` gives up frames, then the window, then size, where even the coarsest quality is too much.

All belong to the hub's thread, and get the time in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class CodecSelector:
    """Chooses images or video, with hysteresis: each change costs a keyframe, or large images."""

    video: bool = False
    _since: float | None = None
    _patience: float = 2.0
    _left_at: float = -math.inf

    MOVING = 0.15
    """The share of the frame that must change each time for video to be worth it: less is cheap as tiles."""
    TO_VIDEO = 0.25
    """Seconds for which video has to be better before it is used."""
    PATIENCE = (2.0, 16.0)
    """Seconds for which images have to be better before they are used; doubled when that failed soon after."""

    def judge(self, share: float, pictures: int, video: int, pictures_fit: bool, now: float) -> bool:
        """Returns True to use video for frames of which this *share* changes. *pictures* and *video* are the rungs that
        images and video could take; *pictures_fit* says that images no coarser than that fit with room to spare."""
        if self.video:
            change = share < self.MOVING / 1.5 or (pictures_fit and pictures <= 1)
        else:
            change = share >= self.MOVING and pictures > 1 and video <= pictures
        if not change:
            self._since = None
            return self.video
        self._since = now if self._since is None else self._since
        if now - self._since >= (self._patience if self.video else self.TO_VIDEO):
            self._change(now)
        return self.video

    def _change(self, now: float) -> None:
        low, high = self.PATIENCE
        if self.video:
            self._left_at = now
        else:
            soon = now - self._left_at < 2 * self._patience
            self._patience = min(2 * self._patience, high) if soon else max(self._patience / 2, low)
        self.video, self._since = not self.video, None


@dataclass(slots=True)
class Backoff:
    """The best rung of video that a viewer may have after it was evicted from a shared encoder."""

    rung: int = 0
    _until: float = -math.inf
    _patience: float = 2.0

    PATIENCE = 16.0
    """Most seconds before the viewer's speed is judged again."""

    def fell(self, rung: int, now: float) -> None:
        """Records that the viewer was evicted at *rung*; above `COARSEST` no rung is left."""
        self.rung = rung + 1
        self._patience = min(2 * self._patience, self.PATIENCE)
        self._until = now + self._patience

    def judge(self, turnaround: float, fps: float, now: float) -> int:
        """Returns the rung: a viewer may return once a frame every *turnaround* seconds is enough for *fps*."""
        if self.rung and now >= self._until:
            if 1.2 * turnaround * fps <= 1:
                self.rung = 0
            else:
                self._until = now + self._patience
        return self.rung


@dataclass(frozen=True, slots=True)
class Step:
    """One step of degradation for a viewer."""

    fps: float
    """The share of the frames that are sent."""
    narrow: bool
    """True for one payload in flight, whatever the window is."""
    scale: float
    """Share of its size at which the publisher is advised to publish."""


@dataclass(slots=True)
class Degradation:
    """Steps through what is given up, in this order and back again."""

    at: int = 0
    _since: float = 0.0
    _direction: int = 0
    _patience: float = 2.0
    _recovered_at: float = -math.inf

    STEPS = (
        Step(1.0, False, 1.0),
        Step(0.67, False, 1.0),
        Step(0.45, False, 1.0),
        Step(0.3, False, 1.0),
        Step(0.3, True, 1.0),
        Step(0.3, True, 0.75),
        Step(0.3, True, 0.5),
    )
    SUFFERING = 1.0
    """Seconds for which a step may be insufficient before the next is taken."""
    PATIENCE = (2.0, 16.0)
    """Seconds for which the previous step must suffice before a return to it; doubled when it failed soon after."""

    @property
    def step(self) -> Step:
        return self.STEPS[self.at]

    def judge(self, enough: Callable[[Step, float], bool], now: float, *, with_size: bool = True) -> Step:
        """Returns the step to take. *enough* says if the coarsest quality fits at a step, with a margin. The size is
        given up only *with_size*."""
        steps = [step for step in self.STEPS if with_size or step.scale == 1]
        if not enough(self.step, 1.0) and self.at < len(steps) - 1:
            direction, seconds = 1, self.SUFFERING
        elif self.at and enough(self.STEPS[self.at - 1], 1.4):
            direction, seconds = -1, self._patience
        else:
            direction, seconds = 0, math.inf
        if direction != self._direction:
            self._direction, self._since = direction, now
        elif now - self._since >= seconds:
            self._move(direction, now)
        return self.step

    def _move(self, direction: int, now: float) -> None:
        low, high = self.PATIENCE
        if direction < 0:
            self._recovered_at = now
        else:
            soon = now - self._recovered_at < 2 * self._patience
            self._patience = min(2 * self._patience, high) if soon else max(self._patience / 2, low)
        self.at, self._direction = self.at + direction, 0

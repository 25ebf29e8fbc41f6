"""Chooses a viewer's codec, and what to give up for it where the ladder of qualities isn't the answer. Pure.

- `CodecSelector` chooses between images and video, by how much moves and what the bandwidth allows.
- `Backoff` keeps a viewer that was evicted from a shared encoder away from it.
- `Degradation` gives up frames, then the window, then size, where even the coarsest quality is too much.

All belong to the hub's thread, and get the time in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from .hysteresis import Direction, Hysteresis


@dataclass(slots=True)
class CodecSelector:
    """Chooses images or video, with hysteresis: each change costs a keyframe, or large images. Images are the better
    state."""

    MOVING = 0.15
    """The share of the frame that must change each time for video to be worth it: less is cheap as tiles."""
    TO_VIDEO = 0.25
    """Seconds for which video has to be better before it is used."""
    PATIENCE = (2.0, 16.0)
    """Least and most seconds for which images have to be better before they are used."""

    video: bool = False
    _hysteresis: Hysteresis = field(default_factory=lambda: Hysteresis(*CodecSelector.PATIENCE, CodecSelector.TO_VIDEO))

    def judge(
        self, share: float, pictures: int, video: int, pictures_fit: bool, now: float, *, worth: bool = True
    ) -> bool:
        """Returns True to use video for frames of which this *share* changes. *pictures* and *video* are the rungs that
        images and video could take; *pictures_fit* says that images no coarser than that fit with room to spare.
        Unless video is *worth* it, images are used at once: that was judged with a hysteresis of its own."""
        wanted: Direction | None = None
        if not worth:
            self.video = False
        elif self.video:
            if share < self.MOVING / 1.5 or (pictures_fit and pictures <= 1):
                wanted = "better"
        elif share >= self.MOVING and pictures > 1 and video <= pictures and not pictures_fit:
            wanted = "worse"
        if self._hysteresis.moves(wanted, now):
            self.video = not self.video
        return self.video


@dataclass(slots=True)
class Backoff:
    """The best rung of video that a viewer may have after it was evicted from a shared encoder.

    The viewer's speed is judged only once its patience has passed, and not all the while: what it gets meanwhile is
    cheaper, and says little about how fast it would take all frames of the encoder.
    """

    PATIENCE = (4.0, 16.0)
    """Least and most seconds before the viewer's speed is judged again."""

    rung: int = 0
    _until: float = -math.inf
    _hysteresis: Hysteresis = field(default_factory=lambda: Hysteresis(*Backoff.PATIENCE))

    def evicted(self, rung: int, now: float) -> None:
        """Records that the viewer was evicted at *rung*; above `COARSEST` no rung is left."""
        self.rung = rung + 1
        self._hysteresis.worsened(now)
        self._until = now + self._hysteresis.patience
        # It may join the next encoder at once: to be evicted from that one soon is another failure.
        self._hysteresis.improved(now)

    def judge(self, turnaround: float, fps: float, now: float) -> int:
        """Returns the rung: a viewer may return once a frame every *turnaround* seconds is enough for *fps*."""
        if self.rung and now >= self._until:
            if 1.2 * turnaround * fps <= 1:
                self.rung = 0
                self._hysteresis.improved(now)
            else:
                self._until = now + self._hysteresis.patience
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
    """Least and most seconds for which the previous step must suffice before a return to it."""

    at: int = 0
    _hysteresis: Hysteresis = field(default_factory=lambda: Hysteresis(*Degradation.PATIENCE, Degradation.SUFFERING))

    @property
    def step(self) -> Step:
        return self.STEPS[self.at]

    def judge(self, enough: Callable[[Step, float], bool], now: float, *, with_size: bool = True) -> Step:
        """Returns the step to take. *enough* says if the coarsest quality fits at a step, with a margin. The size is
        given up only *with_size*."""
        wanted: Direction | None = None
        if not enough(self.step, 1.0):
            steps = [step for step in self.STEPS if with_size or step.scale == 1]
            wanted = "worse" if self.at < len(steps) - 1 else None
        elif self.at and enough(self.STEPS[self.at - 1], 1.4):
            wanted = "better"
        if self._hysteresis.moves(wanted, now):
            self.at += 1 if wanted == "worse" else -1
        return self.step

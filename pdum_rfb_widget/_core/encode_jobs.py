"""The encodings of one stream: images that viewers share, access units, and encoders that hang. No I/O, no clock.

Every call gets the time in seconds. Owned by the hub's thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..limits import ENCODE_TIMEOUT
from ..types import Encoded, Fidelity, Rect
from .shared_encoders import EncodeRequest, SharedEncoder
from .stream_state import EncodePlan
from .viewer import Viewer

MOST_THAT_HANG = 2
"""Number of images of a stream whose encoding may hang, each on a thread of the hub, before no more are begun."""
_MAX_KEPT = 32
"""Number of encodings kept for viewers to share."""
_KEPT_FRAMES = 2
"""An encoding that is not requested for this many frames is dropped."""

Key = tuple[Fidelity, tuple[Rect, ...], int]


@dataclass(slots=True, eq=False)
class EncodeImages:
    """A region of the newest frame, to be encoded as images."""

    plan: EncodePlan
    used: int
    """Version of the frame at its last request."""
    waiting: dict[Viewer, None] = field(default_factory=dict)
    """The viewers that wait for it."""
    outcome: Encoded | Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EncodeVideo:
    """The newest frame, to be encoded by a shared encoder."""

    encoder: SharedEncoder
    request: EncodeRequest


Job = EncodeImages | EncodeVideo


class EncodeJobs:
    """The jobs in progress, and the images that are kept for the next viewers that want the same."""

    def __init__(self) -> None:
        self._kept: dict[Key, EncodeImages] = {}
        self._running: dict[Job, float] = {}
        """The jobs in progress, and the time at which each is given up: all take at most as long, so the first to begin
        is the first to be given up."""
        self._hanging: set[Job] = set()
        """The jobs that were given up and have not returned."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def hanging(self) -> int:
        """Number of jobs that were given up and have not returned."""
        return len(self._hanging)

    @property
    def next_deadline(self) -> float:
        """Time at which the next job is given up; infinity while none is in progress."""
        return next(iter(self._running.values()), math.inf)

    def images(self, plan: EncodePlan, now: float) -> tuple[EncodeImages, bool]:
        """Returns the job for *plan*, and True if it has to begin: viewers that want the same share one. Raises
        `TimeoutError` while too many hang."""
        key = plan.fidelity, plan.region.rects, plan.region.stamp
        job = self._kept.pop(key, None)
        if begins := job is None or isinstance(job.outcome, Exception):
            # Hung video has threads of its own.
            hanging = sum(isinstance(other, EncodeImages) for other in self._hanging)
            if hanging >= MOST_THAT_HANG:
                raise TimeoutError(f"{hanging} encoders of this stream hang: no more are begun")
            job = EncodeImages(plan, plan.region.tiles.version)
            self.begin(job, now)
        assert job
        job.used = plan.region.tiles.version
        self._kept[key] = job  # as the newest, which is dropped last
        if len(self._kept) > _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return job, begins

    def begin(self, job: Job, now: float) -> None:
        """Records that *job* begins."""
        self._running[job] = now + ENCODE_TIMEOUT

    def end(self, job: Job) -> bool:
        """Records that *job* has returned; returns False if it was given up before."""
        self._hanging.discard(job)
        return self._running.pop(job, None) is not None

    def give_up(self, now: float) -> tuple[Job, TimeoutError] | None:
        """Returns a job that has not returned in time, each once, and the error in words; None if there is none."""
        if now < self.next_deadline:
            return None
        job = next(iter(self._running))
        del self._running[job]
        self._hanging.add(job)
        return job, TimeoutError(f"an encoder has not returned for {ENCODE_TIMEOUT:.0f} s")

    def forget(self, version: int) -> None:
        """Drops the images that no viewer has requested since the last few frames before *version*."""
        oldest = version - _KEPT_FRAMES
        self._kept = {key: job for key, job in self._kept.items() if job.used >= oldest}

    def clear(self) -> None:
        """Drops all images that are kept."""
        self._kept.clear()

"""What passes between the rooms: frames, encoded payloads, events, options."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""One picture: uint8, ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA."""

EventDict: TypeAlias = dict[str, Any]
"""One input event of the renderview vocabulary, as validated by `events.validate`."""

ImageMode: TypeAlias = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True, slots=True)
class InputEvent:
    """One input event and the viewer that it came from."""

    client_id: str
    """Opaque name of the viewer's connection, new for every connection."""
    event: EventDict
    """The event: ``type`` and the fields that renderview gives that type; ``x`` and ``y`` in pixels of the frame."""
    received_us: int
    """When it reached the hub, in microseconds of `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a viewer and the hub agreed on. Viewers with equal selections share one encoding."""

    mime: str
    quality: int


@dataclass(frozen=True, slots=True)
class EncodedPayload:
    """One encoded picture, ready for the wire."""

    data: bytes
    mime: str
    width: int
    height: int
    version: int
    """Which published frame this is; grows by one with every `publish`."""
    timestamp_us: int
    """When it was published, in microseconds of `time.monotonic`."""
    encode_ms: float


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Every setting of a stream: named, documented and validated here, and nowhere else.

    Raises `TypeError` or `ValueError` that names the option, what came and what is wanted.
    """

    fps: int = 30
    """The rate the publisher means to keep, 1 to 240 frames a second. Advisory: nothing waits for it."""
    image_mode: ImageMode = "jpeg"
    """The format preferred where the viewer takes it: ``jpeg`` is small, ``png`` exact, ``webp`` smallest and slow."""
    quality: int = 80
    """Of JPEG and WebP, 1 to 100. 80 is where a 1080p JPEG takes 3 ms and its errors are hard to see in motion."""
    max_inflight: int = 2
    """Payloads a viewer may have unacknowledged, 1 to 16. Two fill 60 frames a second, each more adds lag."""
    own_frames: bool = True
    """Copy what is published, so that its buffer may be reused at once. False borrows it: don't touch it afterwards."""
    event_queue_size: int = 4096
    """Events kept for an application that doesn't poll; the oldest go first."""
    stats_interval: float | None = 1.0
    """Seconds between ``stats`` messages to a viewer that is being fed, or None for never."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("fps", 1, 240),
            ("quality", 1, 100),
            ("max_inflight", 1, 16),
            ("event_queue_size", 1, 1 << 20),
        ):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))
        if self.image_mode not in get_args(ImageMode):
            raise ValueError(f"image_mode is one of {', '.join(get_args(ImageMode))}, not {self.image_mode!r}")
        if not isinstance(self.own_frames, bool):
            raise TypeError(f"own_frames is True or False, not {self.own_frames!r}")
        interval = self.stats_interval
        if interval is not None and not (isinstance(interval, (int, float)) and interval > 0):
            raise ValueError(f"stats_interval is a number of seconds above 0 or None, not {interval!r}")

    @classmethod
    def of(cls, options: dict[str, Any]) -> StreamOptions:
        """The options named in *options*, with a `TypeError` that lists all names when one is unknown."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(options) - set(known)):
            raise TypeError(f"unknown option {', '.join(unknown)}; a stream takes {', '.join(known)}")
        return cls(**options)


def check_int(name: str, value: object, low: int, high: int) -> int:
    """*value* as an int; raises unless it is a whole number within *low* to *high*, both included."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {value!r} ({type(value).__name__})")
    if not low <= value <= high:
        raise ValueError(f"{name} is {low} to {high}, not {value}")
    return int(value)

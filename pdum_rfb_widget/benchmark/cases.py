"""The cases of the end-to-end benchmark: what is published, in which size and how, and the limits on the figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .content import Motion

Frames: TypeAlias = tuple[object, ...]
"""Equal for cases that publish the same frames in the same way."""


Kind: TypeAlias = Literal["motion", "video", "rest", "half"]
"""The behaviour measured: moving frames, the same as video, becoming exact at rest, exactness of the half at rest."""


@dataclass(frozen=True, slots=True)
class Case:
    """The content published and the limits on its figures; limits of times are relative to the floor's."""

    key: str
    kind: Kind
    size: tuple[int, int]
    motion: Motion
    options: dict[str, Any]
    title: str
    shown_per_s: float | None = None
    never_shown_percent: float | None = None
    over_floor_ms: float | None = None
    exact_ms: float | None = None
    """Limit of the time until exact, on top of `still_after`."""
    shown_to_bare: float | None = None
    """Limit of the ratio to the bare pipeline, also on a slow machine."""
    costs_to_bare: float | None = None
    """Limit of the ratios of latency and of processor time for each frame shown, likewise."""
    starved_to_bare: float | None = None
    """Limit of the ratio of frames shown on a slow machine, where the limits above it don't hold."""
    jpeg_to_video: float | None = None
    fewest_keyframes: bool = False
    """Require no keyframes except each encoder's first."""
    changed_pixels: int | None = None
    rate: float = 1
    """Factor on the rate of publishing."""
    spins: bool = False
    """The publishing thread computes in pure Python between frames, like a cell that never sleeps."""
    once: bool = False
    """Measure it in the first run only."""

    @property
    def video(self) -> bool:
        return self.options.get("codec") == "h264"

    @property
    def box(self) -> tuple[int, int]:
        """The view's size on the page, which shows a larger picture scaled down."""
        return min(self.size, FULL_HD)

    def frames(self, content: str) -> Frames:
        return content, self.motion, self.size, self.rate, self.spins


HD, FULL_HD, UHD_4K, UHD_8K = (1280, 720), (1920, 1080), (3840, 2160), (7680, 4320)
_LOSSY, _H264 = {"quality": "lossy", "codec": "none"}, {"codec": "h264"}
_AS_BARE: dict[str, Any] = {"shown_to_bare": 1, "costs_to_bare": 1.1}
CASES = (
    Case("a", "motion", FULL_HD, "region", {}, "200x200 of 1080p move", 57, 1, 8, starved_to_bare=4),
    Case("b", "motion", HD, "full", _LOSSY, "720p moves, lossy", 57, None, 15, **_AS_BARE),
    Case("c", "motion", FULL_HD, "full", _LOSSY, "1080p moves, lossy", 45, None, 25, **_AS_BARE),
    Case("d", "motion", HD, "full", {"quality": "lossless"}, "720p moves, lossless", 50, None, 20),
    Case("e", "rest", HD, "full", _LOSSY, "720p comes to rest, lossy", exact_ms=25),
    Case("h", "video", HD, "full", _H264, "720p moves, H.264", 57, None, 15, jpeg_to_video=5),
    Case("i", "video", FULL_HD, "full", _H264, "1080p moves, H.264", 50, None, 25),
    Case(
        "j", "video", FULL_HD, "full", _H264, "1080p at twice the rate, H.264", fewest_keyframes=True, rate=2, once=True
    ),
    Case("k", "rest", HD, "full", _H264, "720p comes to rest, H.264", exact_ms=40, once=True),
    Case("l", "half", HD, "half", _H264, "half of 720p moves, H.264", changed_pixels=0, once=True),
    Case("m", "motion", HD, "full", _LOSSY, "720p at half the rate in a busy cell, lossy", 20, rate=0.5, spins=True),
    Case("n", "motion", HD, "full", {}, "720p moves, auto", shown_to_bare=1.3),
    Case("o", "motion", FULL_HD, "full", {}, "1080p moves, auto", shown_to_bare=1.3),
    Case("p", "motion", FULL_HD, "patch", {}, "400x400 of 1080p move", 55),
    Case("q", "motion", UHD_4K, "patch", {}, "400x400 of 4K move", 55),
    Case("r", "motion", UHD_8K, "patch", {}, "400x400 of 8K move"),
)
"""f and g are letters of `economy`."""

"""Frame sources, which a display asks for the next frame. `Display.attach` feeds a display from a source.

Publishing into a display is simpler. Use a source for frames rendered on demand, or tested one by one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, get_args

from ._frames.pixels import FORMATS, as_pixels
from .events import Event
from .types import MAX_SIDE, PixelFormat, Pixels, RawFrame, check_int

MOST_KEPT = 10_000
"""Most events that a source keeps for `BaseFrameSource.snapshot_events`; beyond that the oldest are dropped."""

Render = Callable[[int, int], Pixels]
"""A function of a frame's number and its time in microseconds that returns its pixels."""


class BaseFrameSource(ABC):
    """Base class of sources: numbers, times, pace and the viewers' input. A subclass only has to `render`.

    *width* and *height* are in pixels, made even, as codecs prefer; a ``resize`` event changes them. Frames come *fps*
    times per second, or with a false *pace* whenever one is requested. The source ends after *max_frames* frames, None
    for no limit. *clock* returns seconds, by default `time.monotonic`.
    """

    def __init__(
        self,
        *,
        width: int = 640,
        height: int = 480,
        fps: float = 30,
        pixel_format: PixelFormat = "rgb24",
        max_frames: int | None = None,
        pace: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not fps > 0:
            raise ValueError(f"fps is a number above 0, not {fps!r}")
        if pixel_format not in get_args(PixelFormat):
            raise ValueError(f"pixel_format is one of {', '.join(get_args(PixelFormat))}, not {pixel_format!r}")
        self._size = _even(check_int("width", width, 1, MAX_SIDE)), _even(check_int("height", height, 1, MAX_SIDE))
        self.fps, self.pixel_format, self.max_frames, self.pace = fps, pixel_format, max_frames, pace
        self._clock = clock or time.monotonic
        self._started: float | None = None
        self._due = 0.0
        self._seq = 0
        self._events: deque[Event] = deque(maxlen=MOST_KEPT)

    @property
    def current_size(self) -> tuple[int, int]:
        """Width and height of the next frame, in pixels."""
        return self._size

    @abstractmethod
    def render(self, seq: int, t_us: int) -> Pixels:
        """The pixels of frame *seq*, counted from 0, *t_us* microseconds after the first. Equal for equal *seq*."""

    async def next_frame(self) -> RawFrame:
        """Wait until the next frame is due, and return it. Raises `StopAsyncIteration` after `max_frames`."""
        if self.max_frames is not None and self._seq >= self.max_frames:
            raise StopAsyncIteration
        now = self._clock()
        if self._started is None:
            self._started = self._due = now
        if self.pace:
            await asyncio.sleep(max(0.0, self._due - now))
            self._due = max(self._due + 1 / self.fps, self._clock())
        return self._frame(round((self._clock() - self._started) * 1e6))

    async def handle_event(self, event: Event) -> None:
        """Keep *event*; a ``resize`` sets `current_size`."""
        self._events.append(event)
        if event["type"] == "resize":
            self._size = _even(event.get("pwidth") or event["width"]), _even(event.get("pheight") or event["height"])

    def snapshot_events(self) -> list[Event]:
        """The newest events, at most 10,000, oldest first."""
        return list(self._events)

    def _frame(self, t_us: int) -> RawFrame:
        pixels = as_pixels(self.render(self._seq, t_us))
        height, width = pixels.shape[:2]
        frame = RawFrame(self._seq, width, height, t_us, self._format_of(pixels), "cpu", pixels)
        self._seq += 1
        return frame

    def _format_of(self, pixels: Pixels) -> PixelFormat:
        """The format of *pixels*: their number of channels, in the order of `pixel_format`."""
        if self.pixel_format == "bgra8":
            return "bgra8"
        return FORMATS[1 if pixels.ndim == 2 else pixels.shape[2]]


class RenderCallbackSource(BaseFrameSource):
    """A source that calls ``render(seq, t_us)``; otherwise as `BaseFrameSource`."""

    def __init__(self, render: Render, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._render = render

    def render(self, seq: int, t_us: int) -> Pixels:
        return self._render(seq, t_us)


class OnDemandFrameSource(RenderCallbackSource):
    """A source that renders a first frame, then one after each `mark_dirty`; with *render_on_event*, also after input.

    It has no pace: several marks since the last frame cause one frame.
    """

    def __init__(self, render: Render, *, render_on_event: bool = True, **kwargs: Any) -> None:
        super().__init__(render, **kwargs | {"pace": False})
        self._render_on_event = render_on_event
        self._dirty = True
        self._waiting: Future[None] | None = None
        self._lock = threading.Lock()  # guards the two above

    def mark_dirty(self) -> None:
        """Request another frame. May be called from any thread."""
        with self._lock:
            self._dirty = True
            waiting, self._waiting = self._waiting, None
        if waiting and waiting.set_running_or_notify_cancel():
            waiting.set_result(None)

    async def next_frame(self) -> RawFrame:
        while True:
            with self._lock:
                if self._dirty:
                    self._dirty = False
                    break
                waiting = self._waiting = Future()
            await asyncio.wrap_future(waiting)
        return await super().next_frame()

    async def handle_event(self, event: Event) -> None:
        await super().handle_event(event)
        if self._render_on_event:
            self.mark_dirty()


def _even(pixels: float) -> int:
    return min(max(2, int(pixels) + int(pixels) % 2), MAX_SIDE)

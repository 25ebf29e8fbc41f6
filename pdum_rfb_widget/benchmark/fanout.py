"""Many viewers of one stream: the cost of each, and whether a bad one harms the others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .._testing.extras import extra
from . import hub_loop
from .cases import HD
from .clients import FORMATS, VIDEO_FORMATS, Clients, Count, clients
from .content import Film
from .endtoend import serve
from .publishing import Published, ThreadClocks, publish_numbers
from .rows import Figures, Progress, Row, at_most, less, medians, ratio

FPS = 30
_WARM_UP = 2.5
"""Seconds: a viewer that connects just after the first shares its encoder after one."""
_AFTERGLOW = 0.3
_JUDGED = "what one more viewer costs, and a bad one"

ENCODE_RATIO = 1.1
PROCESS_RATIO = 1.3
HUB_MS = 0.3
LOST_PERCENT = 5.0


@dataclass(frozen=True, slots=True)
class _Way:
    """A way of sending frames."""

    name: str
    formats: tuple[str, ...]
    options: dict[str, Any]
    threads: str
    """Prefix of the names of the encoding threads."""


_PICTURES = _Way("lossy", FORMATS, {"quality": "lossy", "codec": "none"}, "rfb-encoder")
_VIDEO = _Way("H.264", VIDEO_FORMATS, {"codec": "h264"}, "rfb-video")


@dataclass(frozen=True, slots=True)
class _Costs:
    """Costs of one run, in milliseconds of processor time per published frame."""

    encode_ms: float
    """Encoding and conversion, including threads of libraries."""
    hub_ms: float
    publish_ms: float
    process_ms: float
    """All threads of the process, which publishes too."""
    lost_percent: list[float]
    """For each viewer, the share of published frames of which it got nothing."""
    keyframes: list[int]

    @property
    def figures(self) -> dict[str, float | None]:
        costs = {"encode_ms_per_frame": self.encode_ms, "hub_ms_per_frame": self.hub_ms}
        costs |= {"publish_ms_per_frame": self.publish_ms, "process_ms_per_frame": self.process_ms}
        return {**costs, "worst_lost_percent": max(self.lost_percent)}


def measure(
    progress: Progress, *, viewers: Sequence[int], content: str, video_content: str | None, seconds: float, runs: int
) -> list[Row]:
    """One row for each number of *viewers*, one for the cost with the most, rows with one bad viewer, and those of
    `hub_loop`.

    For pictures, and for the fewest and the most viewers also for video, unless its content is None. Costs are medians
    of *runs*, each of *seconds*.
    """
    progress.add(len(viewers) + 2)
    rows = hub_loop.measure(progress, content=content, runs=runs)
    rows += _grow(progress, _PICTURES, content, sorted(set(viewers)), seconds, runs)
    film = Film(content, "full", *HD)
    progress.step("one viewer of eight stopped")
    costs = _run(_PICTURES, film, 8, seconds, stopped=True)
    rows.append(_bad_row("the other seven, one of eight stopped", costs))
    progress.step("one viewer of four at half the rate")
    costs = _run(_PICTURES, film, 4, seconds, most_per_s=FPS / 2)
    rows.append(_bad_row("the other three, one of four at half rate", costs))
    if video_content:
        rows += _measure_video(progress, sorted({min(viewers), max(viewers)}), video_content, seconds, runs)
    return sorted(rows, key=lambda row: row.group == _JUDGED)


def _measure_video(progress: Progress, counts: Sequence[int], content: str, seconds: float, runs: int) -> list[Row]:
    extra("av")
    progress.add(len(counts) + 1)
    rows = _grow(progress, _VIDEO, content, counts, seconds, runs)
    progress.step("one viewer of video of four at half the rate")
    costs = _run(_VIDEO, Film(content, "full", *HD), 4, seconds, most_per_s=FPS / 2)
    name = "H.264: the other three, one of four at half rate"
    return [*rows, _bad_row(name, costs, keyframes=max(costs.keyframes[:-1]))]


def _grow(progress: Progress, way: _Way, content: str, counts: Sequence[int], seconds: float, runs: int) -> list[Row]:
    film, rows = Film(content, "full", *HD), []
    figures: dict[int, Mapping[str, float | None]] = {}
    for count in counts:
        progress.step(f"{way.name}, {_viewers(count)}")
        figures[count] = medians([_run(way, film, count, seconds).figures for _ in range(runs)])
        rows.append(
            Row(f"viewers of 720p in motion at {FPS} fps", f"{way.name}, {_viewers(count)}", {**figures[count]})
        )
    return rows + _growth(way, min(counts), max(counts), figures) if len(counts) > 1 else rows


def _viewers(count: int) -> str:
    return f"{count} viewer{'s' * (count > 1)}"


def _growth(way: _Way, few: int, many: int, costs: Mapping[int, Mapping[str, float | None]]) -> list[Row]:
    grown = ratio(costs[many]["encode_ms_per_frame"], costs[few]["encode_ms_per_frame"])
    hub_ms = less(costs[many]["hub_ms_per_frame"], costs[few]["hub_ms_per_frame"])
    each = None if hub_ms is None else hub_ms / (many - few)
    steps = f"from {few} to {_viewers(many)}"
    times, cost = f"≤ {ENCODE_RATIO:g} times", f"≤ {HUB_MS:g} ms a viewer more"
    hub_figures: Figures = {"hub_ms_per_frame_and_viewer": each}
    process = ratio(costs[many]["process_ms_per_frame"], costs[few]["process_ms_per_frame"])
    return [
        Row(_JUDGED, f"{way.name}: encoding {steps}", {"times": grown}, times, at_most(grown, ENCODE_RATIO)),
        Row(_JUDGED, f"{way.name}: hub {steps}", hub_figures, cost, at_most(each, HUB_MS)),
        Row(
            _JUDGED,
            f"{way.name}: all of the process {steps}",
            {"times": process},
            f"≤ {PROCESS_RATIO:g} times",
            at_most(process, PROCESS_RATIO),
        ),
    ]


def _bad_row(name: str, costs: _Costs, keyframes: int | None = None) -> Row:
    """The effect of a bad viewer, the last, on the others, which must get no *keyframes* because of it."""
    lost = max(costs.lost_percent[:-1])
    figures: Figures = {"worst_lost_percent": lost}
    wanted, held = f"each loses ≤ {LOST_PERCENT:g} %", at_most(lost, LOST_PERCENT)
    if keyframes is None:
        return Row(_JUDGED, name, figures, wanted, held)
    return Row(_JUDGED, name, figures | {"keyframes": keyframes}, f"{wanted}, no keyframe", held and not keyframes)


def _run(way: _Way, film: Film, count: int, seconds: float, **behaviour: Any) -> _Costs:
    with ExitStack() as stack:
        # Never exact: that would cause encoding in the pauses in which frames are counted.
        display = stack.enter_context(serve(HD, fps=FPS, still_after=None, **way.options))
        display.publish(film.frame(0))
        viewers = stack.enter_context(clients(display, count, formats=way.formats, **behaviour))

        def publish(first: int, duration: float) -> Published:
            # In this thread: the time of a thread that has ended would count as the libraries'.
            return publish_numbers(range(first, first + round(duration * FPS)), FPS, film.frame, display.publish)

        last = max(publish(1, _WARM_UP).at)
        before, clocks = _counts(viewers), ThreadClocks()
        published = publish(last + 1, seconds)
        encode, hub = clocks.seconds_with_libraries(way.threads), clocks.seconds("rfb-hub")
        process = clocks.process_seconds
        after = _counts(viewers)
    frames, changes = len(published.at), list(zip(before, after, strict=True))
    return _Costs(
        encode_ms=1000 * encode / frames,
        hub_ms=1000 * hub / frames,
        publish_ms=1000 * published.cpu / frames,
        process_ms=1000 * process / frames,
        lost_percent=[100 * max(0.0, 1 - (b.frames - a.frames) / frames) for a, b in changes],
        keyframes=[b.keyframes - a.keyframes for a, b in changes],
    )


def _counts(viewers: Clients) -> list[Count]:
    time.sleep(_AFTERGLOW)
    return viewers.counts()

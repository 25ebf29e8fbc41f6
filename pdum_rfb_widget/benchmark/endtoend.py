"""From `publish` to the canvas: a real browser, a view of the package's own, and the same for a floor beneath it.

A page notes at each animation frame which number its canvas shows; two clocks are brought together by ping-pong. The
floor is the least that any such view must take: a worker draws one rectangle for a message of eight bytes.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import server as hub
from ..display import Display
from ..types import StreamOptions
from .browser import Browser, Page, chromium
from .content import Film, Motion
from .harness import Harness
from .publishing import Published, duration, in_thread, publish_numbers
from .rows import Figures, Progress, Row, at_least, at_most, less, median, medians, percentile

WARM_UP = 1.5
"""Seconds of publishing before anything counts."""
BURST = 15
"""Frames of motion before a picture comes to rest."""
_AFTERGLOW = 0.5
_BLIND = 2.0
_PATIENCE_MS = 2000

T = TypeVar("T")
Numbers = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Case:
    """What is published and what is wanted of it; limits are of figures, latency's is above the floor's."""

    key: str
    size: tuple[int, int]
    motion: Motion
    options: dict[str, Any]
    title: str
    shown_per_s: float | None = None
    never_shown_percent: float | None = None
    over_floor_ms: float | None = None


HD, FULL_HD = (1280, 720), (1920, 1080)
CASES = (
    Case("a", FULL_HD, "region", {}, "200x200 of 1080p move", 57, 1, 8),
    Case("b", HD, "full", {"quality": "lossy"}, "720p moves, lossy", 57, None, 15),
    Case("c", FULL_HD, "full", {"quality": "lossy"}, "1080p moves, lossy", 45, None, 25),
    Case("d", HD, "full", {"quality": "lossless"}, "720p moves, lossless", 50, None, 20),
)
REST = Case("e", HD, "full", {"quality": "lossy"}, "720p comes to rest, lossy")
REST_WITHIN_MS = 25
"""After `still_after` and the floor."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    cases: str = "abcde"
    contents: tuple[str, ...] = ("terrain",)
    fps: float = 60
    seconds: float = 5
    settles: int = 20
    """Of the case that is about coming to rest."""
    other_settles: int = 3
    runs: int = 1
    read_every: int = 1
    """The canvas is read in two animation frames of so many, 1 for in all: less load, but estimates."""


def measure(progress: Progress, plan: Plan) -> tuple[list[Row], str]:
    """The rows of all cases, medians over the runs; and the browser's version."""
    cases = [case for case in CASES if case.key in plan.cases]
    rests = REST.key in plan.cases
    sizes = sorted({case.size for case in [*cases, *([REST] if rests else [])]})
    progress.add(plan.runs * (len(sizes) + len(plan.contents) * (len(cases) + rests)))
    floors: dict[tuple[int, int], list[Numbers]] = {size: [] for size in sizes}
    moved: dict[tuple[str, str], list[Numbers]] = {}
    rested: dict[str, list[Numbers]] = {}
    with chromium() as browser, Harness() as harness:
        for run in range(1, plan.runs + 1):
            stage = _Stage(browser, harness, plan, f"run {run} of {plan.runs}: ", progress)
            for size in sizes:
                floors[size].append(stage.floor(size))
            for content in plan.contents:
                for case in cases:
                    moved.setdefault((content, case.key), []).append(stage.motion(case, content))
                if rests:
                    rested.setdefault(content, []).append(stage.rest(REST, content))
        version = browser.version
    floor = {size: medians(runs) for size, runs in floors.items()}
    rows = [Row(_GROUP, f"floor {w}x{h}", dict(floor[w, h])) for w, h in sizes]
    for content in plan.contents:
        rows += [_motion_row(case, content, medians(moved[content, case.key]), floor[case.size]) for case in cases]
        rows += [_rest_row(content, medians(rested[content]), floor[REST.size])] if rests else []
    return rows, version


# Rows -----------------------------------------------------------------------------------------------------------------

_GROUP = "from publish to canvas"
_REST_GROUP = "from motion to exact"


def _motion_row(case: Case, content: str, figures: Numbers, floor: Numbers) -> Row:
    over = less(figures["p50_ms"], floor["p50_ms"])
    wanted = []
    if case.shown_per_s is not None:
        wanted.append((f"≥ {case.shown_per_s:g} shown/s", at_least(figures["shown_per_s"], case.shown_per_s)))
    if case.never_shown_percent is not None:
        never = figures["never_shown_percent"]
        wanted.append((f"≤ {case.never_shown_percent:g} % never", at_most(never, case.never_shown_percent)))
    if case.over_floor_ms is not None:
        wanted.append((f"p50 ≤ floor + {case.over_floor_ms:g} ms", at_most(over, case.over_floor_ms)))
    shown: Figures = {}
    for name, value in figures.items():
        shown[name] = value
        if name == "p50_ms":
            shown["p50_over_floor_ms"] = over
    words, held = ", ".join(words for words, _ in wanted), all(held for _, held in wanted)
    return Row(_GROUP, f"({case.key}) {case.title}, {content}", shown, words, held if wanted else None)


def _rest_row(content: str, figures: Numbers, floor: Numbers) -> Row:
    still_after = StreamOptions().still_after
    assert still_after is not None
    floor_ms = floor["p50_ms"]
    limit = None if floor_ms is None else 1000 * still_after + floor_ms + REST_WITHIN_MS
    words = f"exact ≤ {1000 * still_after:g} + floor + {REST_WITHIN_MS} ms"
    name = f"({REST.key}) {REST.title}, {content}"
    return Row(_REST_GROUP, name, dict(figures), words, at_most(figures["exact_ms"], limit))


# One measurement ------------------------------------------------------------------------------------------------------


class _Stage:
    """Measures one thing after the other, each with a new page and a new stream."""

    def __init__(self, browser: Browser, harness: Harness, plan: Plan, prefix: str, progress: Progress) -> None:
        self._browser = browser
        self._harness = harness
        self._plan = plan
        self._prefix = prefix
        self._progress = progress

    def floor(self, size: tuple[int, int]) -> Numbers:
        """What the least of all views does at this *size*."""
        self._progress.step(f"{self._prefix}floor {size[0]}x{size[1]}")
        with self._page(size) as (page, offset):
            page.call("bench.openFloor", self._harness.socket("floor"), *size)
            send = self._harness.floor()
            self._publish(self._warm_up, int, send)
            published = self._publish(self._counted, int, send)
            return self._latencies(published, page, offset)

    def motion(self, case: Case, content: str) -> Numbers:
        """What a view of frames in motion does, and how long it then takes to be exact."""
        self._progress.step(f"{self._prefix}({case.key}) {case.title}, {content}")
        film = Film(content, case.motion, *case.size)
        with self._page(case.size) as (page, offset), self._stream(case, film, page) as display:
            self._publish(self._warm_up, film.frame, display.publish)
            sent, cpu = counter(display, "bytes_sent"), time.process_time()
            published = self._publish(self._counted, film.frame, display.publish)
            cpu, sent = time.process_time() - cpu, counter(display, "bytes_sent") - sent
            figures = self._latencies(published, page, offset)
            figures["bytes_per_frame"] = sent / len(published.at)
            figures["cpu_ms_per_frame"] = 1000 * cpu / len(published.at)
            figures["acked_unwatched_per_s"] = self._unwatched(page, film, display)
            exact = self._settle(page, offset, film, display, self._plan.other_settles, self._blind.stop)
            return figures | {"exact_ms": median(exact)}

    def rest(self, case: Case, content: str) -> Numbers:
        """How long it takes after a burst of motion until the canvas is exact."""
        self._progress.step(f"{self._prefix}({case.key}) {case.title}, {content}")
        film = Film(content, case.motion, *case.size)
        with self._page(case.size) as (page, offset), self._stream(case, film, page) as display:
            self._publish(self._warm_up, film.frame, display.publish)
            exact = self._settle(page, offset, film, display, self._plan.settles, self._warm_up.stop)
        known = [value for value in exact if value is not None]
        p95 = percentile(known, 0.95) if len(known) == len(exact) else None
        missing = len(exact) - len(known)
        return {"settles": len(exact), "not_within_2_s": missing, "exact_ms": median(exact), "exact_p95_ms": p95}

    # Its parts --------------------------------------------------------------------------------------------------------

    @property
    def _warm_up(self) -> range:
        return range(1, 1 + round(WARM_UP * self._plan.fps))

    @property
    def _counted(self) -> range:
        first = self._warm_up.stop
        return range(first, first + round(self._plan.seconds * self._plan.fps))

    @property
    def _blind(self) -> range:
        first = self._counted.stop
        return range(first, first + round(min(_BLIND, self._plan.seconds) * self._plan.fps))

    @contextmanager
    def _page(self, size: tuple[int, int]) -> Iterator[tuple[Page, float]]:
        """A new page with a stage of *size*, and its clock less ours in seconds."""
        with self._browser.page(self._harness.page, size) as page:
            page.wait_for("window.bench")
            page.call("bench.openClock", self._harness.socket("clock"))
            page.call("bench.readEvery", self._plan.read_every)
            yield page, self._harness.clock_offset()

    @contextmanager
    def _stream(self, case: Case, film: Film, page: Page) -> Iterator[Display]:
        """A stream that *page* shows."""
        with serve(case.size, **case.options) as display:
            display.publish(film.frame(0))
            page.call("bench.openView", display.ws_url, display.server.token, *film.place)
            page.wait_for("document.querySelector('.rfb-has-picture')")
            yield display

    def _publish(self, numbers: range, prepare: Callable[[int], T], send: Callable[[T], object]) -> Published:
        return in_thread(lambda: publish_numbers(numbers, self._plan.fps, prepare, send))()

    def _latencies(self, published: Published, page: Page, offset: float) -> Numbers:
        """From just before `publish` to the first reading of the canvas that finds the number.

        A number that another follows within one animation frame was never shown. Where not all frames are read, the
        pairs that are stand for all.
        """
        time.sleep(_AFTERGLOW)
        taken = page.call("bench.take")
        order = {number: place for place, number in enumerate(published.at)}
        waits, passed, before = [], 0, -1
        for number, at, follows in taken["readings"]:
            place = order.get(number, -1)
            if follows and place > before:
                passed += place - before
                waits.append(at - 1000 * (published.at[number] + offset))
            before = place
        start, seconds = min(published.at.values()), duration(self._counted, self._plan.fps)
        frames = sum(start <= at / 1000 - offset < start + seconds for at in taken["frames"])
        shown = len(waits) / passed if passed else 0.0
        return {
            "published": len(published.at),
            "page_frames_per_s": frames / seconds,
            "shown_per_s": shown * len(published.at) / seconds,
            "never_shown_percent": 100 * (1 - shown),
            "p50_ms": percentile(waits, 0.5),
            "p95_ms": percentile(waits, 0.95),
        }

    def _unwatched(self, page: Page, film: Film, display: Display) -> float:
        """Payloads a second that the view draws and acknowledges while nobody reads its canvas.

        Reading it back copies all of it, 2 ms at 720p and 4 ms at 1080p, which a machine with few cores lacks.
        """
        page.call("bench.readEvery", 0)
        before = counter(display, "frames_acked")
        self._publish(self._blind, film.frame, display.publish)
        acked = counter(display, "frames_acked") - before
        return acked / duration(self._blind, self._plan.fps)

    def _settle(
        self, page: Page, offset: float, film: Film, display: Display, times: int, first: int
    ) -> list[float | None]:
        """Milliseconds from the last publish of a burst until the canvas is exact, *times* over."""
        exact = []
        page.call("bench.readEvery", 1)
        for start in range(first, first + times * BURST, BURST):
            last = start + BURST - 1
            height, width = film.frame(last).shape[:2]
            url = self._harness.expected(film.frame(last))
            page.call("bench.expect", url, last, width, height)
            published = self._publish(range(start, start + BURST), film.frame, display.publish)
            shown = page.call("bench.exact", _PATIENCE_MS)
            at = published.at.get(last)
            exact.append(None if shown is None or at is None else shown - 1000 * (at + offset))
        return exact


def serve(size: tuple[int, int], **options: Any) -> Display:
    """A display on any free port of loopback, which sends no statistics."""
    return hub.serve(*size, port=0, stats_interval=None, **options)


def counter(display: Display, name: str) -> int:
    """What the hub tells over HTTP under *name*, such as ``bytes_sent``, of all viewers together."""
    url = f"http://127.0.0.1:{display.port}/streams/{display.name}/metrics"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {display.server.token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return sum(viewer[name] for viewer in json.load(answer))

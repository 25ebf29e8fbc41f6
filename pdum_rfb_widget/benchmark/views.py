"""Fifty views of ten streams on one page, ten of them in sight: how soon they are live, and what the page costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from ..display import Display
from .browser import Browser, Page, chromium
from .content import Film
from .endtoend import serve
from .harness import Harness
from .rows import Progress, Row, at_most, medians, ratio

VIEWS, STREAMS, VISIBLE = 50, 10, 10
FPS = 30
_SIZE = (320, 240)
_BOX = (1650, 490)
"""Size of the page: two rows of five views."""
_MOVING = 3.0
_AFTERGLOW = 3.0

VISIBLE_S = 5.0
IDLE_PERCENT = 1.0
MEMORY_MB = 8.0


def measure(progress: Progress, *, content: str, idle_seconds: float, runs: int) -> list[Row]:
    """One row: the times until the views in sight have a picture and until all are live, the browser's processor time
    while nothing is published, and its memory per view without the canvas. Medians of *runs*."""
    film = Film(content, "full", *_SIZE)
    progress.add(runs)
    found = []
    for run in range(1, runs + 1):
        progress.step(f"{VIEWS} views, run {run} of {runs}")
        found.append(_run(film, idle_seconds))
    figures = medians(found)
    limits = {"visible_s": VISIBLE_S, "idle_percent": IDLE_PERCENT, "memory_mb_per_view": MEMORY_MB}
    held = all(at_most(figures[name], limit) for name, limit in limits.items())
    wanted = f"visible ≤ {VISIBLE_S:g} s, idle ≤ {IDLE_PERCENT:g} %, ≤ {MEMORY_MB:g} MB a view"
    name = f"{VIEWS} views of {STREAMS} streams, {VISIBLE} in sight"
    return [Row("many views on one page", name, {**figures}, wanted, held)]


def _run(film: Film, idle_seconds: float) -> dict[str, float | None]:
    with ExitStack() as stack:
        displays = [stack.enter_context(serve(_SIZE, name=f"stream-{n}")) for n in range(STREAMS)]
        for display in displays:
            display.publish(film.frame(0))
        browser, harness = stack.enter_context(chromium()), stack.enter_context(Harness())
        page = stack.enter_context(browser.page(harness.address("views.html"), _BOX))
        page.wait_for("window.bench")
        empty = browser.memory()
        figures = _open(page, displays)
        time.sleep(_AFTERGLOW)
        figures["idle_percent"] = _idle(browser, idle_seconds)
        _move(displays, film)
        full = browser.memory()
        each = None if full is None or empty is None else (full - empty) / VIEWS - 4 * _SIZE[0] * _SIZE[1]
        figures["memory_mb_per_view"] = ratio(each, 1e6)
        return figures


def _open(page: Page, displays: Sequence[Display]) -> dict[str, float | None]:
    addresses = [displays[n % STREAMS].ws_url for n in range(VIEWS)]
    start = time.perf_counter()
    page.call("bench.open", addresses, displays[0].server.token)
    page.wait_for(f"bench.pictures({VISIBLE}) === {VISIBLE}")
    visible = time.perf_counter() - start
    page.wait_for(f"bench.live() === {VIEWS}")
    return {"visible_s": visible, "all_live_s": time.perf_counter() - start}


def _idle(browser: Browser, seconds: float) -> float:
    before = sum(browser.processor_times().values())
    time.sleep(seconds)
    return 100 * (sum(browser.processor_times().values()) - before) / seconds


def _move(displays: Sequence[Display], film: Film) -> None:
    """Publish to all streams for a while."""
    for number in range(round(_MOVING * FPS)):
        for display in displays:
            display.publish(film.frame(number))
        time.sleep(1 / FPS)

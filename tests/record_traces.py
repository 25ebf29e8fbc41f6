"""Records what a real browser makes of a stream, for test_adaptive: python tests/record_traces.py

Each trace is the list of calls that the rungs and budgets of one viewer were told of, in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hosts import chromium
from pages import show
from relay import SlowLink

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.policy.bandwidth import BandwidthEstimator, CostModel, Ladder
from pdum_rfb_widget.benchmark.content import Film

TRACES = Path(__file__).parent / "traces"
FPS, SECONDS = 30, 6


def main() -> None:
    calls: list[list[Any]] = []
    for owner, name in (
        (CostModel, "learn"),
        (BandwidthEstimator, "acknowledged"),
        (BandwidthEstimator, "sent"),
        (BandwidthEstimator, "need"),
        (Ladder, "judge"),
    ):
        setattr(owner, name, _recorded(getattr(owner, name), name, calls))
    film = Film("terrain", "full", 1280, 720)
    TRACES.mkdir(exist_ok=True)
    with chromium() as browser:
        for name, rate in (("loopback", None), ("tunnel-20-mbit", 2.5e6), ("tunnel-2-mbit", 2.5e5)):
            with rfb.serve(1280, 720, port=0, stats_interval=None, still_after=None) as display:
                link = SlowLink(display.port, rate or 1e12)
                with link:
                    page = browser.new_page()
                    show(page, display, url=f"ws://127.0.0.1:{link.port}/{display.name}")
                    calls.clear()
                    start = time.monotonic()
                    for number in range(FPS * SECONDS):
                        time.sleep(max(0.0, start + number / FPS - time.monotonic()))
                        display.publish(film.frame(number))
                    lines = [json.dumps([_short(value, start) for value in call]) for call in list(calls)]
                    page.close()
            (TRACES / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
            print(name, len(lines), "calls, rung", next(call[1] for call in reversed(calls) if call[0] == "judge"))


def _recorded(method: Callable[..., Any], name: str, calls: list[list[Any]]) -> Callable[..., Any]:
    def call(self: Any, *args: Any) -> Any:
        answer = method(self, *args)
        plain = [arg for arg in args if isinstance(arg, (int, float, type(None)))]
        calls.append([name, answer, *plain] if name == "judge" else [name, *plain])
        return answer

    return call


def _short(value: Any, start: float) -> Any:
    """Times as seconds since the *start*; all but times are less than what the clock shows."""
    if isinstance(value, float):
        return round(float(np.float64(value - start if value > 0.9 * start else value)), 9)
    return value


if __name__ == "__main__":
    main()

"""The command line: selects the groups to measure, their duration and the form of the output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._testing.extras import MissingExtra
from .._testing.patterns import CONTENTS, PATTERNS
from .content import VIDEO_CONTENT
from .rows import Progress, Row
from .starved import can_starve, starved

_DESCRIPTION = """
Measures this package on this machine. Without any of --encode, --end-to-end, --starved, --viewers, --economy, --idle,
--views, --quick and --full it measures the encoders and the engine, without a browser. Exits with 0 whether or not the
figures are what is wanted.
"""
_CASES = "of --end-to-end, by their letters (abcdehijklmno; beh with --quick; pqr are a part of 1080p, 4K and 8K)"
_CONTENT = "terrain; surface of video; encoded are terrain, plot and points"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what *argv* selects and print the results. Returns 0, or 1 if a requirement is missing."""
    options = _options(argv)
    try:
        rows, machine = _measure(options)
        _tell(rows, machine, options)
    except MissingExtra as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


def _measure(options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    from .machine import machine
    from .output import progress_bar

    found: dict[str, Any] = dict(machine())
    rows: list[Row] = []
    with progress_bar(sys.stderr) as progress:
        if options.encode:
            rows += _encoding(progress, options)
        if options.engine:
            rows += import_module(f"{__package__}.engine").measure(progress, quick=options.quick)
        if options.end_to_end:
            more, found["chromium"] = _end_to_end(progress, options)
            rows += more
        if options.economy:
            rows += _economy(progress, options)
        if options.viewers:
            rows += _fan_out(progress, options)
        if options.idle:
            rows += _idle(progress, options)
        if options.views:
            rows += _views(progress, options)
    return rows, found


def _tell(rows: Sequence[Row], machine: dict[str, Any], options: argparse.Namespace) -> None:
    from .output import as_json, as_markdown, print_tables

    settings = {name: value for name, value in vars(options).items() if name not in ("json", "markdown")}
    to_stdout = options.json == "-"
    file = sys.stderr if to_stdout else sys.stdout
    print(", ".join(f"{name} {value}" for name, value in machine.items() if value is not None), file=file)
    if options.end_to_end or options.viewers:
        print(f"end to end, viewers: medians of {options.runs} run(s) of {options.seconds:g} s", file=file)
    if options.starved:
        print("end to end: all on one core, beside a busy loop", file=file)
    print(file=file)
    if options.markdown:
        print(as_markdown(rows), file=file)
    else:
        print_tables(rows, file)
    if options.json:
        text = as_json(rows, machine, settings)
        if to_stdout:
            print(text)
        else:
            Path(options.json).write_text(text + "\n", "utf-8")


# Groups ---------------------------------------------------------------------------------------------------------------


def _encoding(progress: Progress, options: argparse.Namespace) -> list[Row]:
    from . import encode

    contents = options.content or CONTENTS
    return encode.measure(progress, sizes=options.sizes, contents=contents, frames=options.frames, fps=options.fps)


def _end_to_end(progress: Progress, options: argparse.Namespace) -> tuple[list[Row], str]:
    from . import endtoend

    plan = endtoend.Plan(
        cases=options.cases,
        contents=_moving(options),
        video_contents=_video(options),
        fps=options.fps,
        seconds=options.seconds,
        settles=options.settles,
        other_settles=1 if options.quick else 3,
        runs=options.runs,
        starved=options.starved,
    )
    if not options.starved:
        return endtoend.measure(progress, plan)
    with starved():
        return endtoend.measure(progress, plan)


def _economy(progress: Progress, options: argparse.Namespace) -> list[Row]:
    from . import economy

    content = _moving(options)[0]
    still = economy.measure_still(progress, content=content, video_content=_further_video(options))
    return still + economy.measure_region(progress, content=content, seconds=options.seconds)


def _fan_out(progress: Progress, options: argparse.Namespace) -> list[Row]:
    from . import fanout

    content, video_content = _moving(options)[0], _further_video(options)
    return fanout.measure(
        progress,
        viewers=options.viewers,
        content=content,
        video_content=video_content,
        seconds=options.seconds,
        runs=options.runs,
    )


def _idle(progress: Progress, options: argparse.Namespace) -> list[Row]:
    from . import economy

    return economy.measure_idle(progress, content=_moving(options)[0], seconds=options.idle_seconds)


def _views(progress: Progress, options: argparse.Namespace) -> list[Row]:
    from . import views

    content = _moving(options)[0]
    return views.measure(progress, content=content, idle_seconds=options.idle_seconds, runs=options.runs)


def _moving(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(options.content or CONTENTS[:1])


def _video(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(options.content or (VIDEO_CONTENT,))


def _further_video(options: argparse.Namespace) -> str | None:
    """The content for video in groups where video is secondary; None to skip it."""
    return None if options.quick else _video(options)[0]


# Options --------------------------------------------------------------------------------------------------------------


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pdum_rfb_widget.benchmark", description=_DESCRIPTION)
    groups = parser.add_argument_group("what is measured")
    groups.add_argument("--encode", action="store_true", help="the encoders beside bare library calls")
    groups.add_argument("--end-to-end", action="store_true", help="from publish() to the canvas of a headless Chromium")
    groups.add_argument("--starved", action="store_true", help="the same, all on one core beside a busy loop")
    groups.add_argument("--economy", action="store_true", help="what still frames and small changes cost")
    groups.add_argument("--viewers", type=_counts, nargs="?", const=(1, 2, 4, 8), help="fan-out, e.g. 1,2,4,8")
    groups.add_argument("--idle", action="store_true", help="what one viewer costs while nothing is published")
    groups.add_argument("--views", action="store_true", help="fifty views on one page")
    groups.add_argument("--quick", action="store_true", help="all groups, each as short as can be: within a minute")
    groups.add_argument("--full", action="store_true", help="all groups, at length")
    how = parser.add_argument_group("how")
    how.add_argument("--sizes", type=_sizes, help="of encoded frames (1280x720,1920x1080)")
    how.add_argument("--content", type=_contents, help=f"of {', '.join(PATTERNS)} ({_CONTENT})")
    how.add_argument("--cases", help=_CASES)
    how.add_argument("--frames", type=_positive, help="encoded in a series (60)")
    how.add_argument("--fps", type=float, default=60.0, help="published end to end, and that bitrates are for (60)")
    how.add_argument("--seconds", type=float, help="of each run, without its warm-up of 1.5 s (5)")
    how.add_argument("--settles", type=_positive, help="times that a picture comes to rest in cases e and k (20)")
    how.add_argument("--runs", type=_positive, default=1, help="end to end, of which medians are told (1)")
    how.add_argument("--idle-seconds", type=float, help="of --idle (10; 60 with --full)")
    told = parser.add_argument_group("how it is told")
    told.add_argument("--json", metavar="PATH", help="all figures as JSON; - for stdout, and the tables on stderr")
    told.add_argument("--markdown", action="store_true", help="tables as Markdown")
    options = parser.parse_args(argv)
    if options.starved and not can_starve():
        parser.error("--starved pins threads to one core, which this system has no call for; Linux does")
    return _complete(options)


def _complete(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in the options not given, from the others."""
    everything = options.quick or options.full
    options.end_to_end = options.end_to_end or options.starved
    asked = options.encode or options.end_to_end or options.economy or options.viewers
    asked = asked or options.idle or options.views
    options.engine = (everything or not asked) and find_spec(f"{__package__}.engine") is not None
    options.encode = options.encode or everything or not asked
    for name in ("end_to_end", "economy", "idle", "views"):
        setattr(options, name, getattr(options, name) or everything)
    if everything and not options.viewers:
        options.viewers = (1, 8) if options.quick else (1, 2, 4, 8)
    defaults: dict[str, tuple[Any, Any]] = {
        "sizes": (((640, 360),), ((1280, 720), (1920, 1080))),
        "cases": ("beh", "abcdehijklmno"),
        "frames": (8, 60),
        "seconds": (1.0, 5.0),
        "settles": (3, 20),
        "idle_seconds": (2.0, 60.0 if options.full else 10.0),
    }
    for name, (quick, usual) in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else usual)
    return options


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    sizes = tuple(tuple(int(side) for side in size.split("x")) for size in text.split(","))
    if any(len(size) != 2 for size in sizes):
        raise ValueError(text)
    return tuple((size[0], size[1]) for size in sizes)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_positive(count) for count in text.split(","))


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _contents(text: str) -> tuple[str, ...]:
    contents = tuple(text.split(","))
    if unknown := set(contents) - set(PATTERNS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: a content is one of {', '.join(PATTERNS)}")
    return contents

"""The benchmark: its pictures, its figures and its tables. What it measures here is judged by nobody."""

from __future__ import annotations

import _thread
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

from pdum_rfb_widget._testing import patterns
from pdum_rfb_widget.benchmark import (
    BenchmarkResult,
    benchmark_image,
    content,
    endtoend,
    engine,
    format_table,
    hub_loop,
    main,
    views,
)
from pdum_rfb_widget.benchmark.bare import TO_BARE, WINDOW, BarePipeline, to_bare
from pdum_rfb_widget.benchmark.browser import chromium
from pdum_rfb_widget.benchmark.clients import VIDEO_FORMATS, clients
from pdum_rfb_widget.benchmark.harness import Harness
from pdum_rfb_widget.benchmark.output import as_json, as_markdown
from pdum_rfb_widget.benchmark.publishing import ThreadClocks, publish_numbers
from pdum_rfb_widget.benchmark.rows import Row, median, medians, percentile
from pdum_rfb_widget.benchmark.starved import can_starve, starved
from pdum_rfb_widget.benchmark.video import Tapes, jpeg_bytes, psnr, taped
from pdum_rfb_widget.encoders.base import video_encoder_for
from pdum_rfb_widget.encoders.h264_cpu import H264CpuEncoder
from pdum_rfb_widget.encoders.image import encode_jpeg
from pdum_rfb_widget.types import EncoderBackend, Pixels, RawFrame, VideoFormat

W, H = 320, 240


# Pictures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", patterns.PATTERNS)
def test_a_pattern_moves_and_is_the_same_every_time(pattern: str) -> None:
    frames = patterns.render(pattern, W, H, 3)
    patterns.render.cache_clear()
    again = patterns.render(pattern, W, H, 3)
    assert [(f.shape, f.dtype, f.flags.c_contiguous) for f in frames] == [((H, W, 3), np.uint8, True)] * 3
    assert all((a == b).all() for a, b in zip(frames, again, strict=True))
    assert not (frames[0] == frames[1]).all()
    assert len(np.unique(frames[0])) > 20, "it is a picture, not an area of one colour"


@pytest.mark.parametrize("pattern", patterns.PATTERNS)
def test_a_number_is_read_back_from_a_bad_jpeg(pattern: str) -> None:
    film = content.Film(pattern, "full", W, H, 2)
    for number in (0, 1, 0x1234, 0xA5C3, 0xFFFF):
        frame = film.frame(number)
        shown = np.asarray(Image.open(io.BytesIO(encode_jpeg(frame, 45))))
        assert content.read_stamp(shown, *film.place) == content.read_stamp(frame, *film.place) == number


def test_a_region_moves_and_nothing_else() -> None:
    film = content.Film("terrain", "region", W, H, 4)
    x, y, w, h = film.region
    assert (w, h) == (200, 200)
    first = film.frame(1).copy()
    second = film.frame(2)
    changed = (first != second).any(axis=2)
    assert changed[y : y + h, x : x + w].mean() > 0.5
    changed[y : y + h, x : x + w] = False
    assert not changed.any()
    assert content.read_stamp(second, x, y) == 2


def test_the_right_half_moves_and_not_the_left_one() -> None:
    film = content.Film("surface", "half", W, H, 4)
    first = film.frame(1).copy()
    changed = (first != film.frame(2)).any(axis=2)
    assert changed[:, W // 2 :].any()
    assert not changed[:, : W // 2].any()
    assert content.read_stamp(film.frame(2), *film.place) == 2


def test_a_patch_is_the_same_on_a_picture_of_any_size() -> None:
    small, large = (content.Film("terrain", "patch", *size, 4) for size in ((640, 480), (3840, 2160)))
    for film in (small, large):
        film.frame(7)
    (x, y, w, h), (right, down, *_) = small.region, large.region
    assert (w, h) == (400, 400)
    assert (small.frame(8)[y : y + h, x : x + w] == large.frame(8)[down : down + h, right : right + w]).all()


def test_what_is_still_stays() -> None:
    film = content.Film("gradient", "still", W, H, 2)
    assert (film.frame(1).copy() == film.frame(2)).all()


def test_a_wrong_pattern_is_named() -> None:
    with pytest.raises(ValueError, match="gradient, surface, terrain, plot, points, not 'noise'"):
        benchmark_image(pattern="noise", frames=1)


# Encoders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("jpeg", 25, 60), ("jpeg444", 30, 60), ("png", math.inf, math.inf), ("webp", 25, 60)],
)
def test_an_encoder_is_measured(mode: str, low: float, high: float) -> None:
    result = benchmark_image(mode=mode, frames=3, width=W, height=H, fps=10)
    assert (result.width, result.height, result.frames, result.fps, result.encoder) == (W, H, 3, 10, mode)
    assert low <= result.psnr_db <= high
    assert result.encode_ms_mean > 0
    assert result.encode_ms_p95 > 0
    assert result.bitrate_at_fps_bps == pytest.approx(80 * result.bytes_per_frame)


def test_a_better_quality_is_larger_and_nearer() -> None:
    low, high = (benchmark_image(quality=quality, frames=1, width=W, height=H) for quality in (30, 90))
    assert low.bytes_per_frame < high.bytes_per_frame
    assert low.psnr_db < high.psnr_db


def test_a_wrong_mode_is_named() -> None:
    with pytest.raises(ValueError, match="jpeg, jpeg444, png, webp, not 'gif'"):
        benchmark_image(mode="gif")


def test_the_table_has_a_line_for_each() -> None:
    lossy = BenchmarkResult("terrain 640x480", "jpeg", 640, 480, 60, 30, 1.234, 2.345, 12_345, 2_962_800, 41.27)
    exact = BenchmarkResult("plot 640x480", "png", 640, 480, 60, 30, 5, 6, 100_000, 24_000_000, math.inf)
    head, *lines = format_table([lossy, exact]).splitlines()
    assert head.split("  ")[0] == "content"
    assert lines[0].split() == ["terrain", "640x480", "jpeg", "60", "1.23", "2.35", "12.3", "3.0", "30", "41.3"]
    assert lines[1].split()[-1] == "exact"
    assert len(lines) == 2


# Video ----------------------------------------------------------------------------------------------------------------


def encoder() -> EncoderBackend:
    return video_encoder_for(VideoFormat("h264", "420"), width=W, height=H, quality=engine.QP)


def encode(encoder: EncoderBackend, frame: Pixels, seq: int, *, keyframe: bool = False) -> bytes:
    (made,) = encoder.encode(RawFrame(seq, W, H, 20_000 * seq, "rgb24", "cpu", frame), force_keyframe=keyframe)
    return made.payload


def test_what_the_encoders_made_is_judged_by_the_frames_that_it_was_made_of() -> None:
    film = content.Film("surface", "full", W, H)
    with taped() as tapes:
        first = encoder()
        for number in range(3):
            encode(first, film.frame(number), number)
        tapes.begin()
        for number in range(3, 20):
            encode(first, film.frame(number), number)
        second = encoder()
        encode(second, film.frame(20), 20)
        encode(second, film.frame(21), 21, keyframe=True)
    assert (tapes.encoders, tapes.keyframes) == (2, 3)
    judged = tapes.judge(film.frame, film.place)
    assert 38 < (judged["PSNR_dB"] or 0) < 50
    assert 0 < (judged["video_bytes"] or 0) < (judged["jpeg_bytes"] or 0)
    assert type(encoder()) is H264CpuEncoder, "the registry is as it was"


def test_nothing_is_judged_of_no_video() -> None:
    assert set(Tapes().judge(lambda number: np.zeros((H, W, 3), np.uint8), (0, 0)).values()) == {None}


def test_jpeg_of_the_psnr_of_a_quality_has_its_size() -> None:
    frames = patterns.render("surface", W, H, 2)
    data = [encode_jpeg(frame, 70) for frame in frames]
    shown = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in data]
    size = sum(map(len, data)) / 2
    assert jpeg_bytes(frames, psnr(zip(shown, frames, strict=True))) == pytest.approx(size, rel=0.02)
    assert jpeg_bytes(frames, 10) < size < jpeg_bytes(frames, math.inf)


def test_the_bare_calls_make_what_the_encoder_makes() -> None:
    width, height = 640, 480  # smaller frames are no work for several threads
    film = content.Film("surface", "full", width, height, 4)
    ours = video_encoder_for(VideoFormat("h264", "420"), width=width, height=height, quality=engine.QP)
    bare = engine.BarePyAV(width, height)
    for number in range(4):
        frame = film.frame(number)
        (made,) = ours.encode(RawFrame(number, width, height, 20_000 * number, "rgb24", "cpu", frame))
        other = bare.encode(frame, number)
        assert number == 0 or made.payload == other, "but for the tags of the first"


def test_a_raw_viewer_of_video_counts_its_keyframes() -> None:
    film = content.Film("gradient", "full", 128, 64, 4)
    with (
        endtoend.serve((128, 64), codec="h264", quality=75) as display,
        clients(display, 1, formats=VIDEO_FORMATS) as viewers,
    ):
        deadline = time.monotonic() + 60
        while (count := viewers.counts()[0]).frames < 5 and time.monotonic() < deadline:
            display.publish(film.frame(count.frames))
    assert (count.keyframes, count.frames >= 5) == (1, True)


@pytest.mark.usefixtures("browser")
def test_video_in_a_browser_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--end-to-end", "--cases", "hl", "--seconds", "0.5", "--json", "-"]) == 0
    _, *bare, moving, half = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in bare] == ["bare pipeline of (h), surface", "bare pipeline of (l), surface"]
    assert [row["group"] for row in bare] == [moving["group"], half["group"]]
    assert all(set(TO_BARE) <= set(row["figures"]) for row in bare)
    assert {"shown_per_s", "p50_over_floor_ms", "PSNR_dB", "jpeg_to_video"} <= set(moving["figures"])
    assert set(TO_BARE.values()) <= set(moving["figures"]) & set(half["figures"])
    assert moving["figures"]["keyframes"] >= moving["figures"]["encoders"] >= 1
    assert half["figures"]["changed_pixels"] == 0


def test_video_is_measured_with_its_own_content() -> None:
    todo = endtoend.Plan(contents=("terrain",), video_contents=("surface",)).todo
    assert [case.key for case, content in todo if content == "terrain"] == list("abcdemno")
    assert [case.key for case, content in todo if content == "surface"] == list("hijkl")


# The bare pipeline ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("browser")
def test_the_bare_pipeline_shows_frames_and_counts_them() -> None:
    film, sent, shown = content.Film("gradient", "full", 128, 64, 4), set[int](), set[int]()
    deadline = time.monotonic() + 60
    with chromium() as browser, Harness() as harness, browser.page(harness.page, (128, 64)) as page:
        page.wait_for("window.bench")
        page.call("bench.openBare", harness.socket("bare"), 128, 64, *film.place)
        pipeline, number = BarePipeline(harness.connected("bare")), 0
        while (pipeline.counter("frames_acked") < 5 or not shown & sent) and time.monotonic() < deadline:
            before = pipeline.counter("frames_sent")
            pipeline.publish(film.frame(number := number + 1))
            if pipeline.counter("frames_sent") > before:
                sent.add(number)
            shown |= {number for number, _ in page.call("bench.take")}
        assert 0 <= len(sent) - pipeline.counter("frames_acked") <= WINDOW
        assert sum(browser.processor_times().values()) > 0
    assert pipeline.counter("frames_acked") >= 5
    assert shown & sent
    assert pipeline.counter("bytes_sent") > 100 * len(sent)


def test_the_bare_pipeline_skips_frames_while_two_are_on_their_way() -> None:
    with Harness() as harness, connect(harness.socket("bare"), compression=None) as page:
        pipeline = BarePipeline(harness.connected("bare"))
        for _ in range(5):
            pipeline.publish(np.zeros((H, W, 3), np.uint8))
        assert (pipeline.counter("frames_sent"), pipeline.counter("frames_acked")) == (2, 0)
        assert len(page.recv()) + len(page.recv()) == pipeline.counter("bytes_sent")
        page.send("")
        deadline = time.monotonic() + 60
        while not pipeline.counter("frames_acked") and time.monotonic() < deadline:
            time.sleep(0.001)
        for _ in range(5):
            pipeline.publish(np.zeros((H, W, 3), np.uint8))
        assert (pipeline.counter("frames_sent"), pipeline.counter("frames_acked")) == (3, 1)


def test_ratios_to_the_bare_pipeline_are_of_the_figures_that_both_have() -> None:
    bare = {"shown_per_s": 30.0, "p50_ms": None, "publisher_ms_per_shown": 4.0, "browser_ms_per_shown": 8.0}
    assert to_bare({**bare, "shown_per_s": 45.0}, bare) == {
        **{"shown_to_bare": 1.5, "p50_to_bare": None},
        **{"publisher_to_bare": 1, "browser_to_bare": 1},
    }
    assert to_bare({"exact_ms": 180.0}, bare) == {}


# A slow machine -------------------------------------------------------------------------------------------------------

_CORES = "import os; print(len(os.sched_getaffinity(0)))"


@pytest.mark.skipif(not can_starve(), reason="this system lets no process choose its cores")
def test_all_threads_and_processes_are_starved_and_then_no_longer() -> None:
    usual, end = os.sched_getaffinity(0), threading.Event()
    early = threading.Thread(target=end.wait)
    late = threading.Thread(target=end.wait)
    early.start()
    try:
        with suppress(KeyError), starved() as core:
            late.start()
            threads = [early.native_id or 0, late.native_id or 0]
            assert [os.sched_getaffinity(thread) for thread in (0, *threads)] == [{core}] * 3
            assert int(subprocess.check_output([sys.executable, "-c", _CORES])) == 1
            raise KeyError
        assert [os.sched_getaffinity(thread) for thread in (0, *threads)] == [usual] * 3
    finally:
        end.set()


@pytest.mark.skipif(not can_starve(), reason="this system lets no process choose its cores")
def test_the_end_to_end_group_is_starved(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> tuple[list[Row], str]:
        return [Row("group", "name", {"cores": len(os.sched_getaffinity(0))})], "1"

    usual = os.sched_getaffinity(0)
    monkeypatch.setattr(endtoend, "measure", measure)
    assert main(["--starved", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)["rows"]
    assert row["figures"] == {"cores": 1}
    assert "on one core, beside a busy loop" in err
    assert os.sched_getaffinity(0) == usual


def test_a_system_that_pins_nothing_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(SystemExit):
        main(["--starved"])
    assert "--starved pins threads to one core" in capsys.readouterr().err


# Many views -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("browser")
def test_a_page_of_many_views_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"VIEWS": 6, "STREAMS": 2, "VISIBLE": 5, "_MOVING": 0.1, "_AFTERGLOW": 0}.items():
        monkeypatch.setattr(views, name, value)
    assert main(["--views", "--idle-seconds", "0.1", "--json", "-"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["name"] == "6 views of 2 streams, 5 in sight"
    figures = row["figures"]
    assert 0 < figures["visible_s"] <= figures["all_live_s"]
    assert figures["idle_percent"] >= 0
    assert sys.platform != "linux" or figures["memory_mb_per_view"] > 0


# Figures and tables ---------------------------------------------------------------------------------------------------


def test_percentiles_lie_between_the_nearest() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.95) == 3
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([0.0, 10.0], 0.95) == 9.5


def test_a_run_without_a_figure_counts_as_the_worst() -> None:
    assert median([1, None, 3]) == 3
    assert median([1, None, None]) is None
    assert medians([{"a": 1.0, "b": None}, {"a": 3.0, "b": None}]) == {"a": 2, "b": None}


ROWS = [
    Row("group", "fast", {"p50_ms": 1.5, "PSNR_dB": math.inf}, "≤ 2 ms", True),
    Row("group", "slow", {"p50_ms": None, "lost_percent": 12_345}, "≤ 2 ms", False),
    Row("other", "plain", {"bytes": 7}),
]


def test_rows_as_markdown() -> None:
    lines = as_markdown(ROWS).splitlines()
    assert lines[2] == "|  | p50 ms | PSNR dB | lost % | wanted |  |"
    assert lines[4] == "| fast | 1.50 | exact |  | ≤ 2 ms | ✓ |"
    assert lines[5] == "| slow | – |  | 12,345 | ≤ 2 ms | ✗ |"
    assert lines[-1] == "| plain | 7 |"


def test_rows_as_json() -> None:
    told = json.loads(as_json(ROWS, {"cores": 2}, {"runs": 1}))
    assert told["machine"] == {"cores": 2}
    assert told["rows"][0] == {
        **{"group": "group", "name": "fast", "figures": {"p50_ms": 1.5, "PSNR_dB": "inf"}},
        **{"wanted": "≤ 2 ms", "ok": True},
    }


# Publishing -----------------------------------------------------------------------------------------------------------


def test_numbers_are_published_in_order_and_the_thread_is_charged() -> None:
    clocks, sent = ThreadClocks(), list[int]()
    published = publish_numbers(range(5, 9), 100, lambda number: 10 * number, sent.append)
    assert sent == [10 * number for number in published.at] == sorted(sent)
    assert list(published.at.values()) == sorted(published.at.values())
    assert published.cpu >= 0
    assert clocks.seconds("MainThread") > 0
    assert clocks.seconds("no such thread") == 0


def test_threads_of_libraries_are_charged_too() -> None:
    clocks, done = ThreadClocks(), _thread.allocate_lock()

    def work() -> None:
        while time.thread_time() < 0.05:
            pass
        done.release()

    done.acquire()
    _thread.start_new_thread(work, ())
    done.acquire()
    assert clocks.seconds("no such thread") == 0
    assert clocks.seconds_with_libraries("no such thread") > 0.04


# The command line -----------------------------------------------------------------------------------------------------


def test_encode_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--encode", "--sizes", f"{W}x{H}", "--content", "gradient", "--frames", "2"]
    assert main([*asked, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert {"cores", "processor", "python", "numpy", "pdum-rfb-widget"} <= set(told["machine"])
    assert told["settings"]["frames"] == 2
    assert [row["name"] for row in told["rows"]] == [f"gradient {W}x{H} {mode}" for mode in ("jpeg", "jpeg444", "png")]
    figures = told["rows"][2]["figures"]
    assert {"ms_mean", "ms_p95", "bytes_per_frame", "Mbit_per_s", "PSNR_dB", "time_to_bare"} <= set(figures)
    assert figures["PSNR_dB"] == "inf"
    assert "gradient" in err


def test_raw_viewers_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--idle", "--idle-seconds", "0.1", "--content", "gradient", "--json", "-"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["figures"]["payloads"] == 0


def test_the_hub_is_compared_with_a_loop_that_sends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_loop, "_SECONDS", 0.3)
    (figures,) = hub_loop.pairs(2, (128, 64), "gradient", 1)
    assert figures["hub_to_bare"] == pytest.approx(figures["hub_us_per_message"] / figures["bare_us_per_message"])
    assert 0 < figures["bare_us_per_message"] < 1e5


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
    assert main(["--encode"]) == 1
    assert "pip install 'pdum-rfb-widget[benchmark]'" in capsys.readouterr().err

"""The benchmark: its pictures, its figures and its tables. What it measures here is judged by nobody."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from pdum_rfb_widget.benchmark import BenchmarkResult, benchmark_image, content, format_table, main
from pdum_rfb_widget.benchmark.output import as_json, as_markdown
from pdum_rfb_widget.benchmark.publishing import ThreadClocks, publish_numbers
from pdum_rfb_widget.benchmark.rows import Row, median, medians, percentile
from pdum_rfb_widget.encoders.image import encode_jpeg

W, H = 320, 240


# Pictures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", content.PATTERNS)
def test_a_pattern_moves_and_is_the_same_every_time(pattern: str) -> None:
    frames = content.render(pattern, W, H, 3)
    content.render.cache_clear()
    again = content.render(pattern, W, H, 3)
    assert [(f.shape, f.dtype, f.flags.c_contiguous) for f in frames] == [((H, W, 3), np.uint8, True)] * 3
    assert all((a == b).all() for a, b in zip(frames, again, strict=True))
    assert not (frames[0] == frames[1]).all()
    assert len(np.unique(frames[0])) > 20, "it is a picture, not an area of one colour"


@pytest.mark.parametrize("pattern", content.PATTERNS)
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


def test_what_is_still_stays() -> None:
    film = content.Film("gradient", "still", W, H, 2)
    assert (film.frame(1).copy() == film.frame(2)).all()


def test_a_wrong_pattern_is_named() -> None:
    with pytest.raises(ValueError, match="gradient, terrain, plot, points, not 'noise'"):
        benchmark_image(pattern="noise", frames=1)


# Encoders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "low", "high"), [("jpeg", 25, 60), ("jpeg444", 30, 60), ("png", math.inf, math.inf)])
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
    with pytest.raises(ValueError, match="jpeg, jpeg444, png, not 'gif'"):
        benchmark_image(mode="gif")


def test_the_table_has_a_line_for_each() -> None:
    lossy = BenchmarkResult("terrain 640x480", "jpeg", 640, 480, 60, 30, 1.234, 2.345, 12_345, 2_962_800, 41.27)
    exact = BenchmarkResult("plot 640x480", "png", 640, 480, 60, 30, 5, 6, 100_000, 24_000_000, math.inf)
    head, *lines = format_table([lossy, exact]).splitlines()
    assert head.split("  ")[0] == "content"
    assert lines[0].split() == ["terrain", "640x480", "jpeg", "60", "1.23", "2.35", "12.3", "3.0", "30", "41.3"]
    assert lines[1].split()[-1] == "exact"
    assert len(lines) == 2


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


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
    assert main(["--encode"]) == 1
    assert "pip install 'pdum-rfb-widget[benchmark]'" in capsys.readouterr().err

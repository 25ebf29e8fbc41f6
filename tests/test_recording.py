"""A recording is a film of what was published and when, whatever happens to the display, the disk or the process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import logging
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hosts import wait_for
from inside import stream_of
from playwright.sync_api import Page
from viewers import RawViewer, grey, in_thread, value_of

import pdum_rfb_widget as rfb
from pdum_rfb_widget._encode.mp4 import Mp4Settings, Mp4Writer
from pdum_rfb_widget.recording import Recording
from pdum_rfb_widget.types import Pixels, RawFrame

PATCHES = np.array(
    [
        [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)],
        [(0, 0, 0), (128, 128, 128), (200, 60, 30), (30, 120, 200)],
        [(240, 200, 20), (90, 30, 140), (20, 160, 120), (250, 130, 180)],
    ],
    np.uint8,
)
SIDE = 32
CHART = PATCHES.repeat(SIDE, axis=0).repeat(SIDE, axis=1)

NOISE = np.random.default_rng(3).integers(0, 256, (80, 48, 64, 1), np.uint8).repeat(3, axis=3)

# Two more than BT.601's own rounding costs at the corners of the cube.
TOLERANCE = 5


@dataclass
class Film:
    """What a file decodes to."""

    frames: list[Pixels]
    times: list[float]
    """Seconds from the start."""
    seconds: float
    stream: dict[str, Any]

    @property
    def greys(self) -> list[int]:
        return [round(float(frame.mean())) for frame in self.frames]


def film(path: Path) -> Film:
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
        context = stream.codec_context
        assert stream.time_base is not None
        assert stream.duration is not None
        tags = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
        facts = {"codec": context.name, "format": context.pix_fmt, "tags": tags, "profile": context.profile}
        return Film(
            [frame.to_ndarray(format="rgb24") for frame in decoded],
            [frame.time for frame in decoded],
            float(stream.duration * stream.time_base),
            facts,
        )


def publish(display: rfb.Display, recording: Recording, *greys: int) -> None:
    """Publish these one after the other, each when the one before was taken."""
    for value in greys:
        taken = recording.frames_written
        display.publish(grey(value))
        wait_for(lambda taken=taken: recording.frames_written > taken, f"frame {value}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "film.mp4"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the hub and recordings take for now, in microseconds: write to its only item."""
    now = [1_000_000]
    for module in ("_hub.stream", "recording"):
        monkeypatch.setattr(f"pdum_rfb_widget.{module}.now_us", lambda: now[0])
    return now


# The film -------------------------------------------------------------------------------------------------------------


def test_every_frame_is_in_it_when_encoding_keeps_up_and_nobody_looks(display: rfb.Display, path: Path) -> None:
    values = [10, 60, 110, 160, 210, 20, 70, 120, 170, 220] * 5
    with display.record(path) as recording:
        publish(display, recording, *values)
    made = film(path)
    np.testing.assert_allclose(made.greys, values, atol=2)
    assert recording.frames_written == len(values)
    assert {frame.shape for frame in made.frames} == {(48, 64, 3)}
    assert made.stream["codec"] == "h264"
    assert made.stream["format"] == "yuv420p"


def test_frames_have_the_times_when_they_were_published_and_the_last_stays_to_the_end(
    display: rfb.Display, path: Path, clock: list[int]
) -> None:
    times = [0, 16_700, 33_300, 33_350, 2_500_000, 3_600_000_000, 90_000_000_000]
    with display.record(path) as recording:
        for n, time in enumerate(times):
            clock[0] = 5_000_000 + time
            publish(display, recording, 10 + 30 * n)
        clock[0] += 7_250_000
    made = film(path)
    np.testing.assert_allclose(made.times, np.array(times) / 1e6, rtol=0, atol=1e-4)
    assert made.seconds == pytest.approx((times[-1] + 7_250_000) / 1e6, abs=1e-3)


def test_a_picture_may_rest_for_longer_than_a_frame_can_last(
    display: rfb.Display, path: Path, clock: list[int]
) -> None:
    day = 24 * 3600 * 1_000_000
    with display.record(path) as recording:
        publish(display, recording, 20)
        clock[0] += 7 * day
        publish(display, recording, 120)
        clock[0] -= 2 * day  # a frame of a clock that was set back follows the one before
        publish(display, recording, 220)
        clock[0] += 5 * day
    made = film(path)
    changes = [n for n, grey in enumerate(made.greys) if n == 0 or abs(grey - made.greys[n - 1]) > 50]
    assert [made.times[n] for n in changes] == pytest.approx([0, 7 * day / 1e6, 7 * day / 1e6 + 1e-4], abs=1e-5)
    np.testing.assert_allclose([made.greys[n] for n in changes], [20, 120, 220], atol=2)
    assert made.seconds == pytest.approx(10 * day / 1e6, abs=0.1)


def test_a_path_may_begin_at_home_and_a_missing_folder_is_named(
    display: rfb.Display, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("~/out.mp4", Path("~") / "OUT.MP4"):
        with display.record(path) as recording:
            display.publish(grey(20))
            wait_for(lambda recording=recording: recording.frames_written, "the frame")
        assert recording.path == tmp_path / Path(path).name
        assert len(film(recording.path).frames) == 1
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*/nowhere' to record into: '.*a\.mp4'"):
        display.record(tmp_path / "nowhere" / "a.mp4")


def test_raw_frames_have_their_own_times(display: rfb.Display, path: Path, clock: list[int]) -> None:
    times = [70_000, 1_070_000, 1_103_300, 4_000_000]
    with display.record(path) as recording:
        for n, time in enumerate(times):
            clock[0] += 10_000
            taken = recording.frames_written
            display.publish(RawFrame(n, 64, 48, time, "rgb24", "cpu", grey(10 + 30 * n)))
            wait_for(lambda taken=taken: recording.frames_written > taken, f"frame {n}")
        clock[0] += 500_000
        publish(display, recording, 200)
        clock[0] += 2_000_000
    made = film(path)
    assert made.times == pytest.approx([0, 1, 1.0333, 3.93, 4.43], abs=1e-4)
    assert made.seconds == pytest.approx(6.43, abs=1e-3)


def test_a_raw_frames_clock_that_jumps_to_the_epoch_makes_no_film_of_years(
    display: rfb.Display, path: Path, clock: list[int]
) -> None:
    with display.record(path) as recording:
        for n, time in enumerate([70_000, 1_070_000, 1_795_862_400_000_000]):
            clock[0] += 10_000
            display.publish(RawFrame(n, 64, 48, time, "rgb24", "cpu", grey(10 + 30 * n)))
            wait_for(lambda n=n: recording.frames_written > n, f"frame {n}")
    assert film(path).times == pytest.approx([0, 1, 1.01], abs=1e-4)


def test_frames_of_one_moment_follow_one_another(display: rfb.Display, path: Path, clock: list[int]) -> None:
    with display.record(path, fps=20) as recording:
        publish(display, recording, 10, 90, 170)
    made = film(path)
    assert made.times == pytest.approx([0, 1e-4, 2e-4])
    assert made.seconds == pytest.approx(0.05, abs=1e-3), "the last is shown as long as one of fps"


def test_it_begins_with_what_is_shown_already(display: rfb.Display, path: Path, clock: list[int]) -> None:
    display.publish(grey(200))
    clock[0] += 60_000_000
    with display.record(path) as recording:
        wait_for(lambda: recording.frames_written == 1, "the frame that is there")
        clock[0] += 500_000
        publish(display, recording, 50)
    made = film(path)
    np.testing.assert_allclose(made.greys, [200, 50], atol=2)
    assert made.times == pytest.approx([0, 0.5])


def test_the_same_picture_again_is_no_frame(display: rfb.Display, path: Path) -> None:
    with display.record(path) as recording:
        publish(display, recording, 80)
        for _ in range(5):
            display.publish(grey(80))
        publish(display, recording, 160)
    np.testing.assert_allclose(film(path).greys, [80, 160], atol=2)


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "grey", "reversed"])
def test_colours_are_right_and_tagged(tmp_path: Path, kind: str) -> None:
    display = rfb.serve(64, 48, port=0, own_frames=kind != "reversed")
    frame = {
        "RGB": CHART,
        "RGBA": np.dstack([CHART, np.full(CHART.shape[:2], 7, np.uint8)]),
        "grey": CHART[..., 1].copy(),
        "reversed": CHART[:, ::-1].copy()[:, ::-1],
    }[kind]
    with display.record(tmp_path / "film.mp4"):
        display.publish(frame)
    made = film(tmp_path / "film.mp4")
    wanted = PATCHES if kind != "grey" else PATCHES[..., 1:2].repeat(3, axis=2)
    middles = made.frames[0][SIDE // 2 :: SIDE, SIDE // 2 :: SIDE]
    np.testing.assert_allclose(middles.astype(int), wanted, atol=TOLERANCE)
    assert made.stream["tags"] == (6, 1, 1, 13)


def test_the_colour_space_of_the_first_frame_is_tagged(display: rfb.Display, path: Path) -> None:
    with display.record(path):
        display.publish(CHART, color=rfb.DISPLAY_P3)
    assert film(path).stream["tags"] == (6, 1, 12, 13)


def test_a_browser_shows_its_colours(page: Page, display: rfb.Display, path: Path) -> None:
    with display.record(path):
        display.publish(CHART)
    url = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    shown = page.evaluate(
        """async url => {
            const video = document.createElement("video");
            video.muted = true;
            video.src = url;
            await new Promise((resolve, reject) => {
                video.requestVideoFrameCallback(resolve);
                video.onerror = () => reject(video.error.message);
                document.body.append(video);
            });
            const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
            const context = canvas.getContext("2d");
            context.drawImage(video, 0, 0);
            return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
        }""",
        url,
    )
    pixels = np.array(shown).reshape(*CHART.shape[:2], 4)[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE, :3]
    np.testing.assert_allclose(pixels, PATCHES, atol=TOLERANCE)


# Sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (101, 51), (100, 51), (33, 64)])
def test_odd_sides_get_one_pixel_more(display: rfb.Display, path: Path, width: int, height: int) -> None:
    frame = grey(40, width, height)
    frame[:, width // 2 :] = 220
    with display.record(path):
        display.publish(frame)
    shown = film(path).frames[0]
    assert shown.shape == (height + height % 2, width + width % 2, 3)
    edges = [shown[0, 0, 0], shown[-1, -1, 0]]
    np.testing.assert_allclose(edges, [frame[0, 0, 0], 220], atol=6)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (128, 96, (0, 0, 64, 48)),
        (32, 24, (0, 0, 64, 48)),
        (200, 50, (0, 16, 64, 32)),
        (25, 75, (24, 0, 40, 48)),
        (16384, 1, (0, 23, 64, 25)),
    ],
)
def test_other_sizes_are_scaled_to_fit_amid_black(
    display: rfb.Display, path: Path, width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    with display.record(path) as recording:
        publish(display, recording, 90)
        display.publish(np.full((height, width, 3), 200, np.uint8))
        wait_for(lambda: recording.frames_written == 2, "the other size")
        publish(display, recording, 150)
    before, scaled, after = film(path).frames
    left, top, right, bottom = box
    wanted = np.zeros((48, 64, 3), np.uint8)
    wanted[top:bottom, left:right] = 200
    inner = np.s_[top + 1 : bottom - 1, left + 2 : right - 2] if bottom - top > 2 else np.s_[top:bottom, left:right]
    # A frame that is shown for a moment only gets few bits: the thinnest has been seen at 183.
    np.testing.assert_allclose(scaled[inner].astype(int), wanted[inner], atol=25)
    outside = wanted[..., 0] == 0
    assert scaled[outside].mean() < 8 if outside.any() else True
    np.testing.assert_allclose([before.mean(), after.mean()], [90, 150], atol=2)


def test_a_film_of_frames_that_follow_the_viewer_has_the_size_of_the_second(path: Path, clock: list[int]) -> None:
    display = rfb.serve(64, 48, port=0, resize_policy="match_client")
    display.publish(grey(200, 64, 48))
    with display.record(path) as recording:
        wait_for(lambda: recording.frames_written == 1, "the frame from before")
        clock[0] += 2_000_000
        display.publish(grey(100, 128, 48))
        clock[0] += 1_000_000
    made = film(path)
    assert [frame.shape for frame in made.frames] == [(48, 128, 3)] * 2
    assert made.frames[0][24, [10, 64, 120], 0].tolist() == pytest.approx([0, 200, 0], abs=3), "amid black"
    assert (made.times, made.seconds) == (pytest.approx([0, 2]), pytest.approx(3, abs=0.01))
    with display.record(path) as recording:
        wait_for(lambda: recording.frames_written == 1, "the newest frame")
    assert [frame.shape for frame in film(path).frames] == [(48, 128, 3)], "one frame is a film too"


def test_sizes_may_change_with_every_frame(display: rfb.Display, path: Path) -> None:
    rng = np.random.default_rng(5)
    with display.record(path) as recording:
        publish(display, recording, 90)
        for n in range(40):
            width, height = rng.integers(1, 300, 2)
            display.publish(rng.integers(0, 256, (height, width, (3, 4)[n % 2]), np.uint8))
            wait_for(lambda n=n: recording.frames_written == n + 2, "the next size")
    assert {frame.shape for frame in film(path).frames} == {(48, 64, 3)}


# Ends -----------------------------------------------------------------------------------------------------------------


def test_it_can_be_stopped_at_once_and_the_newest_frame_is_in_it(display: rfb.Display, path: Path) -> None:
    with display.record(path):
        for value in range(5, 250):
            display.publish(grey(value))
    made = film(path)
    assert made.greys[-1] == pytest.approx(249, abs=2)
    assert made.times == sorted(set(made.times))


def test_what_is_published_after_the_stop_is_not_in_it(display: rfb.Display, path: Path) -> None:
    recording = display.record(path)
    publish(display, recording, 50, 100)
    recording.end()
    display.publish(grey(250))
    recording.close()
    np.testing.assert_allclose(film(path).greys, [50, 100], atol=2)
    recording.close()


def test_async_with_and_stop_end_it_too(display: rfb.Display, path: Path, tmp_path: Path) -> None:
    async def record() -> None:
        async with display.record(path):
            display.publish(grey(70))
            await asyncio.sleep(0)
        other = display.record(tmp_path / "other.mp4")
        display.publish(grey(140))
        await other.stop()
        await other.stop()

    in_thread(record)
    np.testing.assert_allclose(film(path).greys, [70], atol=2)
    assert film(tmp_path / "other.mp4").greys[-1] == pytest.approx(140, abs=2)


def test_who_gives_up_waiting_does_not_break_it_off(display: rfb.Display, path: Path) -> None:
    recording = display.record(path)
    publish(display, recording, 70)

    async def give_up() -> None:
        stopping = asyncio.ensure_future(recording.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopping

    in_thread(give_up)
    recording.close()
    np.testing.assert_allclose(film(path).greys, [70], atol=2)


@pytest.mark.parametrize("end", ["close", "aclose", "hub"])
def test_it_is_complete_when_its_display_is_closed(display: rfb.Display, path: Path, end: str) -> None:
    recording = display.record(path)
    publish(display, recording, 70, 140)
    if end == "aclose":
        in_thread(display.aclose)
    else:
        {"close": display.close, "hub": display.server.close}[end]()
    assert recording.done.done()
    np.testing.assert_allclose(film(path).greys, [70, 140], atol=2)
    recording.close()
    with pytest.raises(RuntimeError, match="was closed"):
        display.record(path)


def test_it_ends_with_the_last_frame_before_another_display_takes_over(display: rfb.Display, path: Path) -> None:
    recording = display.record(path)
    publish(display, recording, 50)
    for value in range(60, 100):
        display.publish(grey(value))
    again = rfb.serve(64, 48, port=0, name=display.name)
    again.publish(grey(250))
    recording.close()
    assert max(film(path).greys) < 105
    assert film(path).greys[-1] == pytest.approx(99, abs=2)


def test_another_run_of_its_cell_records_into_the_same_file(display: rfb.Display, path: Path) -> None:
    first = display.record(path)
    publish(display, first, 50, 60)
    again = rfb.serve(64, 48, port=0, name=display.name)
    with again.record(path):
        again.publish(grey(200))
    np.testing.assert_allclose(film(path).greys, [200], atol=2)


def test_a_file_is_recorded_into_once_at_a_time(display: rfb.Display, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(path)
    with display.record(path) as recording:
        publish(display, recording, 50)
        with pytest.raises(ValueError, match=r"link.mp4' is being recorded already"):
            display.record(tmp_path / "link.mp4")
    np.testing.assert_allclose(film(path).greys, [50], atol=2)


PROCESS = """
import os, sys, numpy, pdum_rfb_widget as rfb
display = rfb.serve(64, 48, port=0)
recording = display.record(sys.argv[1])
for n in range(100):
    display.publish(numpy.full((48, 64, 3), n, 'uint8'))
"""


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_it_is_complete_when_its_process_ends_without_a_word(path: Path) -> None:
    done = run(PROCESS, path)
    assert done.returncode == 0, done.stderr
    assert film(path).greys[-1] == pytest.approx(99, abs=2)


@pytest.mark.slow
def test_what_is_older_than_seconds_plays_after_a_crash(path: Path) -> None:
    code = f"""{PROCESS}
from pdum_rfb_widget import recording as module
from pdum_rfb_widget._hub import stream
now = stream.now_us()
for n in range(100):
    now += 100_000
    stream.now_us = lambda: now
    taken = recording.frames_written
    display.publish(numpy.full((48, 64, 3), 50 + n, 'uint8'))
    while recording.frames_written == taken:
        pass
os._exit(0)
"""
    assert run(code, path).returncode == 0
    made = film(path)
    assert made.greys[0] == pytest.approx(0, abs=99)
    assert made.greys[-1] > 50 + 100 - 40


# Viewers and publishers -----------------------------------------------------------------------------------------------


def test_viewers_get_every_frame_all_the_same(display: rfb.Display, path: Path) -> None:
    values = [20, 60, 100, 140, 180, 220] * 10
    with RawViewer(display, "image/png") as viewer, display.record(path) as recording:
        viewer.greet()
        for value in values:
            display.publish(grey(value))
            assert value_of(viewer.see()[1]) == value
        wait_for(lambda: recording.frames_written >= 1, "a frame")
    assert film(path).greys[-1] == pytest.approx(values[-1], abs=2)


def test_a_recording_that_is_slow_skips_frames_and_holds_nobody_up(
    display: rfb.Display, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    slow = Mp4Writer.add

    def stuck(self: Mp4Writer, *frame: Any) -> None:
        begun.set()
        assert may_go_on.wait(60)
        slow(self, *frame)

    monkeypatch.setattr(Mp4Writer, "add", stuck)
    recording = display.record(path)
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        for value in (20, 90, 160, 230):
            display.publish(grey(value))
            assert value_of(viewer.see()[1]) == value
            assert begun.wait(60)
    may_go_on.set()
    recording.close()
    np.testing.assert_allclose(film(path).greys, [20, 230], atol=2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads a priority")
def test_its_thread_comes_after_those_that_feed_viewers(
    display: rfb.Display, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    niceness: list[int] = []
    add = Mp4Writer.add

    def noted(self: Mp4Writer, *frame: Any) -> None:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        add(self, *frame)

    monkeypatch.setattr(Mp4Writer, "add", noted)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with display.record(path):
        display.publish(grey(60))
    assert niceness[0] > before
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_it_gives_every_buffer_back(display: rfb.Display, path: Path) -> None:
    with display.record(path) as recording:
        publish(display, recording, 50, 100, 150)
    with stream_of(display).reading() as frame:
        assert frame is not None
        assert frame.holders == 3, "the store, as its newest and as the one taken last, and this test"
    assert not stream_of(display).listeners
    assert not display.status()["recordings"]


# Trouble --------------------------------------------------------------------------------------------------------------


def test_without_a_frame_there_is_an_error_and_no_file(display: rfb.Display, path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"nothing was published.*film\.mp4"), display.record(path):
        pass
    assert not path.exists()
    path.write_bytes(b"an older one")
    with pytest.raises(RuntimeError, match="nothing was published"), display.record(path):
        pass
    assert path.read_bytes() == b"an older one"


def test_an_older_file_is_replaced(display: rfb.Display, path: Path) -> None:
    path.write_bytes(bytes(1_000_000))
    with display.record(path):
        display.publish(grey(60))
    assert path.stat().st_size < 10_000
    np.testing.assert_allclose(film(path).greys, [60], atol=2)


def test_the_error_of_the_block_is_the_one_that_is_raised(display: rfb.Display, path: Path) -> None:
    with pytest.raises(ZeroDivisionError), display.record(path):
        raise ZeroDivisionError

    async def record() -> None:
        async with display.record(path):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_thread(record)


def test_a_path_that_cannot_be_written_is_an_error_at_the_call(display: rfb.Display, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for name, error in (
        ("missing/film.mp4", FileNotFoundError),
        ("folder.mp4", IsADirectoryError),
        ("file/film.mp4", NotADirectoryError),
    ):
        with pytest.raises(error) as caught:
            display.record(tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(ValueError, match=r"ends with \.mp4, not '.*film\.webm'"):
        display.record(tmp_path / "film.webm")
    assert not display.status()["recordings"]
    assert not stream_of(display).listeners


def test_a_folder_that_is_read_only_is_an_error_at_the_call(display: rfb.Display, path: Path) -> None:
    path.parent.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # who may write anywhere
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=r"film\.mp4"):
            display.record(path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bitrate": 1_000_000, "crf": 20}, ValueError, "a bitrate or a crf, not both: 1000000 and 20"),
        ({"bitrate": 1000}, ValueError, "bitrate is 50000 to 1000000000, not 1000"),
        ({"bitrate": "2M"}, TypeError, "bitrate is a whole number, not '2M'"),
        ({"crf": 52}, ValueError, "crf is 0 to 51, not 52"),
        ({"crf": -1}, ValueError, "crf is 0 to 51, not -1"),
        ({"fps": 0}, ValueError, "fps is 1 to 240, not 0"),
        ({"preset": "quick"}, ValueError, "preset is one of ultrafast, .* not 'quick'"),
    ],
)
def test_options_out_of_range_are_named_and_leave_no_file(
    display: rfb.Display, path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        display.record(path, **options)
    assert not path.exists()


def test_quality_bit_rate_and_preset_reach_the_encoder(display: rfb.Display, tmp_path: Path) -> None:
    sizes = {}
    for name, options in {
        "fine": {"crf": 5},
        "coarse": {"crf": 45},
        "low": {"bitrate": 100_000},
        "high": {"bitrate": 5_000_000},
        "poor": {"crf": 30, "preset": "ultrafast"},
        "good": {"crf": 30, "preset": "slow"},
    }.items():
        target = tmp_path / f"{name}.mp4"
        with display.record(target, **options) as recording:
            for n, frame in enumerate(NOISE[:30]):
                display.publish(frame)
                wait_for(lambda n=n: recording.frames_written > n, "a frame")
        sizes[name] = target.stat().st_size
    assert sizes["fine"] > 4 * sizes["coarse"]
    assert sizes["high"] > 2 * sizes["low"]
    assert sizes["poor"] != sizes["good"]


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file gets larger than *size*, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_an_error_and_what_was_written_plays(
    display: rfb.Display, path: Path, clock: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    published = 0
    with disk_of(100_000):
        recording = display.record(path)
        while not recording.done.done():
            clock[0] += 100_000
            taken = recording.frames_written
            display.publish(NOISE[published % 80])
            published += 1
            wait_for(lambda taken=taken: recording.frames_written > taken or recording.done.done(), "a frame")
        with pytest.raises(OSError, match="the recording broke off, what was written before plays") as caught:
            recording.close()
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert [record for record in caplog.records if record.levelno == logging.ERROR and "film.mp4" in record.message]
    made = film(path)
    assert published - 40 < len(made.frames) < published
    differences = [np.abs(frame - NOISE[n % 80].astype(int)).mean() for n, frame in enumerate(made.frames)]
    assert max(differences) < 5, "each is the one that was published"
    display.publish(grey(1))


@pytest.mark.parametrize("size", [0, 20, 72, 200, 2000])
def test_a_disk_that_is_full_before_the_first_frame_leaves_no_file(display: rfb.Display, path: Path, size: int) -> None:
    with disk_of(size), pytest.raises(OSError, match="broke off"), display.record(path, crf=1):
        display.publish(NOISE[0])
    assert not path.exists()


@pytest.mark.slow
def test_at_every_size_of_the_disk_the_film_plays_up_to_there(tmp_path: Path) -> None:
    def record(path: Path, limit: int) -> None:
        made = Mp4Writer(path, Mp4Settings(30, None, None, "veryfast"))
        with disk_of(limit), contextlib.closing(made), contextlib.suppress(OSError):
            for n, frame in enumerate(NOISE[:60]):
                made.add(frame, n * 100_000)
            made.finish(6_000_000)

    record(tmp_path / "all.mp4", 10_000_000)
    whole = (tmp_path / "all.mp4").stat().st_size
    counts = []
    for limit in [*range(whole // 3, whole, whole // 8), *range(whole - 900, whole, 100), whole]:
        record(tmp_path / "part.mp4", limit)
        counts.append(len(film(tmp_path / "part.mp4").frames))
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1] == 60


def test_an_encoder_that_fails_is_an_error_at_the_stop(
    display: rfb.Display, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recording = display.record(path)
    publish(display, recording, 50, 100)
    monkeypatch.setattr(Mp4Writer, "add", lambda *_: 1 / 0)
    display.publish(grey(150))
    wait_for(recording.done.done, "the end")
    with pytest.raises(ZeroDivisionError):
        recording.close()
    assert "film.mp4" in caplog.text
    np.testing.assert_allclose(film(path).greys, [50, 100], atol=2)


WITHOUT_PYAV = """
import sys
sys.modules['av'] = None
import numpy, pdum_rfb_widget as rfb
from pdum_rfb_widget.recording import recording_available
assert not recording_available()
display = rfb.serve(64, 48, port=0)
display.publish(numpy.zeros((48, 64), 'uint8'))
try:
    display.record('film.mp4')
except RuntimeError as error:
    print(error)
"""


def test_without_pyav_the_extra_is_named_and_all_else_works(tmp_path: Path) -> None:
    done = run(WITHOUT_PYAV)
    assert done.returncode == 0, done.stderr
    assert "pip install 'pdum-rfb-widget[h264]'" in done.stdout

"""Frame sources, and displays that are fed from them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hosts import wait_for
from PIL import Image
from viewers import RawViewer, grey, in_thread, value_of

import pdum_rfb_widget as rfb
from pdum_rfb_widget.sources import BaseFrameSource, OnDemandFrameSource, RenderCallbackSource
from pdum_rfb_widget.types import EventDict, InputEvent, Pixels, RawFrame

RESIZE = {"type": "resize", "width": 100, "height": 50, "pwidth": 201, "pheight": 99, "ratio": 2.0}


def frames_of(source: BaseFrameSource, count: int) -> list[RawFrame]:
    async def take() -> list[RawFrame]:
        return [await source.next_frame() for _ in range(count)]

    return in_thread(take)


def test_frames_are_numbered_timed_and_as_large_as_what_was_rendered() -> None:
    seconds = iter((10.0, 10.0, 10.5, 12.25))
    source = RenderCallbackSource(
        lambda seq, t_us: grey(seq, 6, 4), width=5, height=3, pace=False, clock=lambda: next(seconds)
    )
    assert source.current_size == (6, 4), "even"
    first, second = frames_of(source, 2)
    assert [(frame.seq, frame.timestamp_us, frame.width, frame.height) for frame in (first, second)] == [
        (0, 0, 6, 4),
        (1, 2_250_000, 6, 4),
    ]
    assert (second.data[0, 0, 0], second.pixel_format, second.memory) == (1, "rgb24", "cpu")


def test_a_paced_source_waits_until_the_next_frame_is_due() -> None:
    asked: list[int] = []
    source = RenderCallbackSource(lambda seq, t_us: asked.append(t_us) or grey(seq), fps=50)
    frames_of(source, 4)
    assert all(t_us > 20_000 * number - 1000 for number, t_us in enumerate(asked)), "none before its time"


def test_a_source_ends_after_its_last_frame() -> None:
    source = RenderCallbackSource(lambda seq, t_us: grey(seq), max_frames=2, pace=False)
    assert [frame.seq for frame in frames_of(source, 2)] == [0, 1]
    with pytest.raises(StopAsyncIteration):
        frames_of(source, 1)


def test_events_are_kept_and_a_resize_is_the_next_size() -> None:
    source = RenderCallbackSource(lambda seq, t_us: grey(seq))
    down = {"type": "pointer_down", "x": 1, "y": 2}
    for event in (down, RESIZE):
        in_thread(lambda event=event: source.handle_event(event))
    assert source.snapshot_events() == [down, RESIZE]
    assert source.current_size == (202, 100)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"fps": 0}, {"pixel_format": "yuv"}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RenderCallbackSource(lambda seq, t_us: grey(seq), **wrong)


# Displays that are fed ------------------------------------------------------------------------------------------------


def attach(display: rfb.Display, source: Any) -> Future[None]:
    """Where no event loop runs: in this thread the browser's driver may have one."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(display.attach, source).result()


class Noting(RenderCallbackSource):
    """Frames that grow brighter, and the threads that they were rendered on."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self.threads: set[str] = set()

    def _note(self, seq: int, t_us: int) -> Pixels:
        self.threads.add(threading.current_thread().name)
        return grey(seq % 250)


def look_and_press(display: rfb.Display) -> list[int]:
    """The pictures that a viewer sees, which then presses a button."""
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        seen = [value_of(viewer.see()[1]) for _ in range(5)]
        viewer.say(type="event", event={"type": "pointer_down", "x": 3, "y": 4})
        viewer.see()
    return seen


def test_in_a_script_a_source_has_a_loop_of_its_own_that_ends_with_the_display() -> None:
    source = Noting()
    display = rfb.serve(64, 48, port=0)
    feeding = attach(display, source)
    seen = look_and_press(display)
    assert seen == sorted(set(seen))
    wait_for(source.snapshot_events, "the event")
    assert source.threads == {"rfb-source"}
    display.close()
    wait_for(lambda: feeding.done() and "rfb-source" not in thread_names(), "the end")


def test_in_an_event_loop_a_source_lives_there() -> None:
    async def run() -> None:
        source = Noting()
        async with rfb.serve(64, 48, port=0) as display:
            feeding = display.attach(source)
            seen = await asyncio.to_thread(look_and_press, display)
            assert seen == sorted(set(seen))
            await asyncio.to_thread(wait_for, source.snapshot_events, "the event")
            assert source.threads == {threading.current_thread().name}
        await asyncio.to_thread(wait_for, feeding.done, "the end of the feed")

    in_thread(run)


def thread_names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_source_on_demand_renders_first_and_then_what_was_marked_or_touched() -> None:
    display = rfb.serve(64, 48, port=0)
    source = OnDemandFrameSource(lambda seq, t_us: grey(10 * seq))
    attach(display, source)
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        assert value_of(viewer.see()[1]) == 0
        source.mark_dirty()
        assert value_of(viewer.see()[1]) == 10
        viewer.say(type="event", event={"type": "pointer_down", "x": 3, "y": 4})
        assert value_of(viewer.see()[1]) == 20
        with pytest.raises(TimeoutError):
            viewer.see(timeout=0.2)


def test_a_source_that_is_told_not_to_mind_events_renders_only_what_was_marked() -> None:
    source = OnDemandFrameSource(lambda seq, t_us: grey(seq), render_on_event=False)

    async def run() -> list[int]:
        seqs = [(await source.next_frame()).seq]
        waiting = asyncio.ensure_future(source.next_frame())
        await source.handle_event({"type": "focus_in"})
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        source.mark_dirty()
        source.mark_dirty()
        return [*seqs, (await waiting).seq]

    assert in_thread(run) == [0, 1]


def test_of_events_that_a_source_is_slow_to_take_only_the_newest_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdum_rfb_widget._hub.feed.MOST_WAITING", 5)
    began, goes_on = threading.Event(), threading.Event()

    class Slow(OnDemandFrameSource):
        async def handle_event(self, event: EventDict) -> None:
            began.set()
            await asyncio.to_thread(goes_on.wait, 60)
            if event["type"] == "key_down":  # the viewer's keys come up when it leaves
                taken.append(event["key"])

    taken: list[str] = []
    display = rfb.serve(64, 48, port=0)
    attach(display, Slow(lambda seq, t_us: grey(seq)))
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        viewer.see()
        heard: list[InputEvent] = []
        display.on("*", thread=True)(heard.append)  # called after the source
        viewer.say(type="event", event={"type": "key_down", "key": "0"})
        assert began.wait(60)
        for number in range(1, 31):
            viewer.say(type="event", event={"type": "key_down", "key": str(number)})
        wait_for(lambda: len(heard) == 31, "that the source was told of all")
        goes_on.set()
        wait_for(lambda: taken[-1:] == ["30"], "the newest")
    assert taken[0] == "0"
    assert len(taken) <= 7


def test_without_anybody_to_see_it_a_source_renders_one_frame_and_a_film_gets_all(tmp_path: Any) -> None:
    display = rfb.serve(64, 48, port=0)
    seqs: list[int] = []
    attach(display, RenderCallbackSource(lambda seq, t_us: seqs.append(seq) or grey(seq % 250), pace=False))
    wait_for(lambda: seqs, "the first frame")
    with pytest.raises(TimeoutError):
        wait_for(lambda: len(seqs) > 1, "no other", seconds=0.3)
    with display.record(tmp_path / "out.mp4"):
        wait_for(lambda: len(seqs) > 20, "frames for the film")


def test_sources_follow_the_size_that_the_display_says_and_no_viewer_of_another_policy() -> None:
    following, fixed = rfb.serve(64, 48, port=0, resize_policy="match_client", resize_debounce=0), rfb.serve(64, 48)
    sources = []
    for display in (following, fixed):
        source = OnDemandFrameSource(lambda seq, t_us: grey(seq, *sources[0].current_size), width=64, height=48)
        sources.append(source)
        attach(display, source)
        with RawViewer(display, "image/png") as viewer:
            viewer.greet()
            viewer.say(type="set_viewport", width=100, height=60, pwidth=200, pheight=120, ratio=2)
            viewer.say(type="event", event=RESIZE)
            viewer.say(type="event", event={"type": "focus_in"})
            wait_for(lambda source=source: any(e["type"] == "focus_in" for e in source.snapshot_events()), "the input")
    wait_for(lambda: sources[0].current_size == (200, 120), "the size of the box")
    assert sources[1].current_size == (64, 48)
    assert [event["type"] for event in sources[1].snapshot_events()] == ["focus_in"]


def test_what_a_source_raises_ends_its_feed_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    display = rfb.serve(64, 48, port=0)

    def render(seq: int, t_us: int) -> Any:
        raise ZeroDivisionError("no picture")

    feeding = attach(display, RenderCallbackSource(render))
    with pytest.raises(ZeroDivisionError):
        feeding.result(60)
    assert "no picture" in display.status()["recent_errors"][-1]
    assert "no picture" in caplog.text
    display.publish(grey(1))


def test_a_source_that_raises_what_ends_programs_ends_its_feed_alone() -> None:
    display = rfb.serve(64, 48, port=0)

    class Source(RenderCallbackSource):
        async def handle_event(self, event: EventDict) -> None:
            raise SystemExit

    def render(seq: int, t_us: int) -> Any:
        raise SystemExit("enough")

    async def main() -> None:
        feeding = display.attach(RenderCallbackSource(render))
        with pytest.raises(RuntimeError, match="the source raised SystemExit"):
            await asyncio.wrap_future(feeding)

    in_thread(main)
    assert "SystemExit: enough" in display.status()["recent_errors"][-1]
    hearing = attach(display, Source(lambda seq, t_us: grey(seq % 250)))

    with RawViewer(display) as viewer:
        viewer.greet()
        viewer.see()  # so the feed has begun
        for _ in range(2):
            viewer.say(type="event", event={"type": "focus_in"})

        def failures() -> int:
            return sum("take an event" in trouble for trouble in display.status()["recent_errors"])

        wait_for(lambda: failures() >= 2, "two events that it fails to take")
        assert not hearing.done()


def test_what_a_source_raises_of_an_event_is_told_and_the_feed_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Source(OnDemandFrameSource):
        async def handle_event(self, event: EventDict) -> None:
            await super().handle_event(event)
            raise ValueError("what is this?")

    display = rfb.serve(64, 48, port=0)
    attach(display, Source(lambda seq, t_us: grey(seq)))
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        viewer.see()
        viewer.say(type="event", event={"type": "focus_in"})
        assert value_of(viewer.see()[1]) == 1
    wait_for(lambda: "what is this?" in caplog.text, "the log")
    assert "what is this?" in display.status()["recent_errors"][-1]


def test_a_source_that_ends_is_done_and_one_that_is_cancelled_publishes_no_more() -> None:
    display = rfb.serve(64, 48, port=0)
    ending = attach(display, RenderCallbackSource(lambda seq, t_us: grey(7), max_frames=1))
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        assert value_of(viewer.see()[1]) == 7
        ending.result(60)
        source = OnDemandFrameSource(lambda seq, t_us: grey(9))
        feeding = attach(display, source)
        assert value_of(viewer.see()[1]) == 9
    feeding.cancel()
    wait_for(lambda: "rfb-source" not in thread_names(), "the end of the thread")


def test_what_is_no_source_is_refused_and_so_is_a_closed_display(display: rfb.Display) -> None:
    with pytest.raises(TypeError, match="has no next_frame"):
        attach(display, object())  # type: ignore[arg-type]
    display.close()
    with pytest.raises(RuntimeError, match="closed"):
        attach(display, RenderCallbackSource(lambda seq, t_us: grey(seq)))


def test_a_raw_frame_is_published_with_its_order_ratio_and_colour(display: rfb.Display) -> None:
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[..., 0] = 200
    frame = RawFrame(0, 64, 48, 0, "bgra8", "cpu", pixels, 2.0, rfb.DISPLAY_P3)
    display.publish(frame)
    assert (display.pixel_ratio, display.color) == (2.0, rfb.DISPLAY_P3)
    with Image.open(BytesIO(display.snapshot().png)) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 200)


RAW = RawFrame(0, 64, 48, 0, "rgb24", "cpu", np.zeros((48, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pixel_format": "nv12"}, "pixel_format is one of gray8, rgb24, rgba8, bgra8, not 'nv12'"),
        ({"pixel_format": "nv12", "memory": "cuda", "data": np.zeros((72, 64), np.uint8)}, "not 'nv12'"),
        ({"memory": "cuda"}, "memory is cpu, not 'cuda': copy the data to the host"),
        ({"memory": "anything"}, "memory is cpu, not 'anything'"),
        (
            {"width": 63},
            r"rgb24 frame of 63x48 pixels is uint8 of shape \(48, 63, 3\), not uint8 of shape \(48, 64, 3\)",
        ),
        ({"height": 49}, r"shape \(49, 64, 3\), not"),
        ({"pixel_format": "bgra8"}, r"a bgra8 frame of 64x48 pixels is uint8 of shape \(48, 64, 4\), not"),
        ({"pixel_format": "gray8"}, r"shape \(48, 64\), not"),
        ({"data": np.zeros((48, 64, 3), np.float32)}, "float32"),
        ({"data": None}, "the frame is None"),
        ({"timestamp_us": 0.5}, "timestamp_us is a whole number"),
        ({"pixel_ratio": 0}, "pixel_ratio is 0.1 to 16.0, not 0"),
        ({"color": "srgb"}, "color is a ColorSpace"),
    ],
)
def test_a_raw_frame_that_is_not_what_it_says_is_refused(
    display: rfb.Display, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        display.publish(replace(RAW, **wrong))
    display.publish(RAW)
    with pytest.raises(ValueError, match="pixel_ratio"):
        display.publish(RAW, pixel_ratio=0)


def times_seen(display: rfb.Display, viewer: RawViewer, frames: list[Any]) -> list[int]:
    """What the wire says of the times of these frames."""
    times = []
    for frame in frames:
        display.publish(frame)
        times.append(viewer.see()[0]["timestamp_us"])
    return times


def raw(value: int, timestamp_us: int) -> RawFrame:
    return RawFrame(0, 64, 48, timestamp_us, "rgb24", "cpu", grey(value))


def test_viewers_are_told_the_times_of_raw_frames(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.greet()
        said = [7_000_000, 7_000_010, 19_000_000]
        assert times_seen(display, viewer, [raw(n, time) for n, time in enumerate(said, 1)]) == said


def test_times_grow_whatever_raw_frames_say(display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1_000, 100)
    monkeypatch.setattr("pdum_rfb_widget._hub.stream.now_us", lambda: next(clock))
    frames = [grey(1), raw(2, 5), raw(3, 50_005), raw(4, 50_005), raw(5, 0), raw(6, 7), grey(7), raw(8, 1 << 50)]
    with RawViewer(display) as viewer:
        viewer.greet()
        steps = np.diff(times_seen(display, viewer, frames))
    assert steps.tolist() == [100, 50_000, 100, 100, 7, 100, 100]


def test_a_source_says_how_many_channels_it_renders(display: rfb.Display) -> None:
    for pixels in (grey(3), grey(3)[..., 0], Image.fromarray(grey(3))):
        (frame,) = frames_of(RenderCallbackSource(lambda seq, t_us, pixels=pixels: pixels), 1)
        display.publish(frame)
    with pytest.raises(ValueError, match="a bgra8 frame"):
        display.publish(frames_of(RenderCallbackSource(lambda seq, t_us: grey(3), pixel_format="bgra8"), 1)[0])

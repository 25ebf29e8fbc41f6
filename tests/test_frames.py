"""What publish takes, what it copies, and what it says to everything else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import pdum_rfb_widget as rfb
from pdum_rfb_widget.frames import FrameStore, Outcome, as_pixels
from pdum_rfb_widget.types import Pixels

rng = np.random.default_rng(7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (3, 5, 4), (7, 16384, 3), (16384, 1)])
def test_uint8_of_any_allowed_shape_is_taken_without_a_copy(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint8)
    assert np.shares_memory(as_pixels(frame), frame)


def test_what_numpy_can_view_is_taken() -> None:
    assert as_pixels(Image.new("RGB", (4, 2))).shape == (2, 4, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, bool, object])
def test_other_dtypes_name_what_came_and_what_is_wanted(dtype: type) -> None:
    with pytest.raises(TypeError, match=rf"{np.dtype(dtype)} of shape \(2, 3, 3\), wanted is uint8"):
        as_pixels(np.zeros((2, 3, 3), dtype))


@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 1), (2, 2, 5), (2, 2, 3, 1)])
def test_other_shapes_name_what_came_and_what_is_wanted(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted is uint8 of shape \(H, W\)") as caught:
        as_pixels(np.zeros(shape, np.uint8))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 5), (5, 0, 4), (1, 16385), (16385, 1, 3)])
def test_sizes_out_of_range_name_them(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"{shape[1]}x{shape[0]} pixels, wanted are 1 to 16384"):
        as_pixels(np.zeros(shape, np.uint8))


def put(store: FrameStore, pixels: Pixels, *, copy: bool) -> None:
    store.put(pixels, 0, copy=copy, damage=None, still_wanted=lambda: True)


def test_a_copy_is_safe_from_the_publisher() -> None:
    store, mine = FrameStore(), np.full((4, 4), 1, np.uint8)
    put(store, mine, copy=True)
    mine[:] = 2
    frame = store.hold()
    assert frame is not None
    assert (frame.pixels == 1).all()


def test_a_held_frame_keeps_its_pixels_while_newer_ones_come() -> None:
    store = FrameStore()
    put(store, np.full((4, 4), 1, np.uint8), copy=True)
    held = store.hold()
    assert held is not None
    for value in range(2, 20):
        put(store, np.full((4, 4), value, np.uint8), copy=True)
    assert (held.pixels == 1).all()
    store.release(held)


def test_buffers_are_used_again_and_not_kept_for_another_size() -> None:
    store, buffers = FrameStore(), set()
    for value in range(50):
        put(store, np.full((8, 8, 3), value, np.uint8), copy=True)
        frame = store.hold()
        assert frame is not None
        buffers.add(frame.pixels.ctypes.data)
        store.release(frame)
    assert len(buffers) <= 3
    put(store, np.zeros((4, 4, 3), np.uint8), copy=True)
    frame = store.hold()
    assert frame is not None
    assert frame.pixels.shape == (4, 4, 3)


def test_borrowed_frames_are_not_copied_nor_reused() -> None:
    store, mine = FrameStore(), np.zeros((4, 4), np.uint8)
    put(store, mine, copy=False)
    frame = store.hold()
    assert frame is not None
    assert frame.pixels is mine
    store.release(frame)
    put(store, np.ones((4, 4), np.uint8), copy=True)
    assert (mine == 0).all()


def test_a_frame_that_is_wanted_no_more_after_its_copy_is_dropped() -> None:
    store = FrameStore()
    put(store, np.ones((4, 4), np.uint8), copy=True)
    outcome = store.put(np.zeros((4, 4), np.uint8), 0, copy=True, damage=None, still_wanted=lambda: False)
    assert outcome is Outcome.REFUSED
    frame = store.hold()
    assert frame is not None
    assert (frame.tiles.version, frame.pixels[0, 0]) == (1, 1)


def test_versions_go_on_after_clear() -> None:
    store = FrameStore()
    put(store, np.ones((4, 4), np.uint8), copy=True)
    store.clear()
    assert (store.newest, store.hold()) == (None, None)
    put(store, np.ones((4, 4), np.uint8), copy=True)
    assert store.newest is not None
    assert store.newest.version == 2


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("fps", 0, "fps is 1 to 240, not 0"),
        ("fps", "fast", "fps is a whole number"),
        ("quality", 101, "quality is 1 to 100, not 101"),
        ("quality", "best", "quality is auto, lossless, lossy or a whole number, 1 to 100, not 'best'"),
        ("quality", 0.8, "quality is auto, lossless, lossy or a whole number, 1 to 100, not 0.8"),
        ("bitrate", 0, "bitrate is 50000 to 10000000000, not 0"),
        ("still_after", 0, "still_after is a number of seconds above 0, up to 60, or None, not 0"),
        ("still_after", True, "still_after is a number of seconds above 0, up to 60, or None, not True"),
        ("alpha", 1, "alpha is True or False, not 1"),
        ("max_inflight", True, "max_inflight is a whole number"),
        ("image_mode", "gif", "image_mode is one of jpeg, png, webp, not 'gif'"),
        ("own_frames", None, "own_frames is True or False"),
        ("stats_interval", "1", "stats_interval is a number of seconds above 0, up to 60, or None, not '1'"),
        ("origins", ["friend.example"], "an origin is a string like 'https://host'"),
        ("origins", ["https://friend.example/"], "an origin is a string like 'https://host'"),
        ("origins", [5], "an origin is a string like 'https://host'"),
        ("origins", "https://friend.example", "origins is a list of strings"),
        ("host", None, "host is a name or an address to listen on, not None"),
        ("name", "", "a stream's name is 1 to 64 letters"),
        ("stats_interval", -1, "stats_interval is a number of seconds above 0"),
        ("qualty", 80, "unknown option qualty; a stream takes fps, quality, codec, image_mode"),
    ],
)
def test_bad_options_are_refused_at_the_call(option: str, value: object, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        rfb.serve(8, 8, port=0, **{option: value})


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 16385), ("8", 8), (8, 1.5)])
def test_bad_sizes_are_refused_at_the_call(width: object, height: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"width|height"):
        rfb.serve(width, height, port=0)


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    display = rfb.serve(np.int64(8), np.uint8(6), port=0, fps=np.int16(25), event_queue_size=np.int64(9))
    assert (display.width, display.height) == (8, 6)
    assert type(display.width) is int
    assert display.server.stream().name == "default"

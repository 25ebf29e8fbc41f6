"""What publish takes, what it copies, and what it says to everything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.lib.recfunctions
import pytest
from inside import stream_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import pdum_rfb_widget as rfb
from pdum_rfb_widget._frames.damage import as_damage
from pdum_rfb_widget._frames.pixels import as_pixels
from pdum_rfb_widget._frames.store import FrameStore
from pdum_rfb_widget.types import Pixels

rng = np.random.default_rng(7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (3, 5, 4), (7, 16384, 3), (16384, 1)])
def test_uint8_of_any_allowed_shape_is_taken_without_a_copy(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint8)
    assert np.shares_memory(as_pixels(frame), frame)


class OnlyDlpack:
    """An array that numpy knows by nothing but DLPack, as those of other libraries."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self._array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class OldArray:
    """By the protocol's signature before numpy 2."""

    def __array__(self) -> Pixels:
        return CARD


class OnGpu:
    def __dlpack__(self, **how: Any) -> Any:
        raise BufferError("cuda:0 is no CPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def detach(self) -> None: ...


class OnCuda:
    __cuda_array_interface__: ClassVar[dict[str, Any]] = {"shape": (4, 4), "typestr": "|u1", "data": (0, False)}

    def get(self) -> None: ...


class Later:
    def __await__(self) -> Iterator[Any]:
        raise NotImplementedError


class Boom:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Pixels:
        raise ValueError("boom")


CARD = rng.integers(0, 256, (4, 6, 3), np.uint8)


def test_what_numpy_can_view_is_taken() -> None:
    assert as_pixels(Image.new("RGB", (4, 2))).shape == (2, 4, 3)
    assert np.array_equal(as_pixels(OldArray()), CARD)
    assert np.array_equal(as_pixels(CARD[..., 0].view(np.matrix)), CARD[..., 0])
    assert type(as_pixels(CARD[..., 0].view(np.matrix))) is np.ndarray
    assert np.array_equal(as_pixels(memoryview(CARD)), CARD)


def test_a_file_in_memory_is_taken(tmp_path: Path) -> None:
    CARD.tofile(tmp_path / "card")
    assert np.array_equal(as_pixels(np.memmap(tmp_path / "card", np.uint8, "r", shape=CARD.shape)), CARD)


def test_what_only_has_dlpack_is_taken_without_a_copy() -> None:
    pixels = as_pixels(OnlyDlpack(CARD))
    assert np.array_equal(pixels, CARD)
    assert np.shares_memory(pixels, CARD)
    with pytest.raises(TypeError, match=r"float32 of shape \(2, 3\).*np\.clip\(np\.asarray\(frame\), 0, 1\)"):
        as_pixels(OnlyDlpack(np.zeros((2, 3), np.float32)))


def test_one_channel_is_grey_and_the_last_axis_is_always_the_channels() -> None:
    assert np.array_equal(as_pixels(CARD[..., :1]), CARD[..., 0])
    assert as_pixels(np.zeros((3, 480, 4), np.uint8)).shape == (3, 480, 4)


def test_a_masked_array_is_refused_by_name() -> None:
    for mask in (CARD < 9, np.ma.nomask):
        with pytest.raises(TypeError, match=r"masked array.*frame\.filled\(0\)"):
            as_pixels(np.ma.masked_array(CARD, mask))


@pytest.mark.parametrize(
    ("mode", "channels"), [("P", 3), ("YCbCr", 3), ("HSV", 3), ("RGBX", 3), ("PA", 4), ("RGBa", 4)]
)
def test_pillow_images_that_have_one_meaning_show_their_colours(mode: str, channels: int) -> None:
    red = Image.new("RGBA" if mode in ("PA", "RGBa") else "RGB", (4, 2), (250, 10, 20))
    pixels = as_pixels(red.convert(mode) if mode != "P" else red.quantize(8))
    assert pixels.shape == (2, 4, channels)
    assert np.abs(pixels[..., :3].astype(int) - (250, 10, 20)).max() <= 3


def test_pillow_images_of_grey_bits_and_palettes_with_holes_are_what_they_look_like() -> None:
    assert as_pixels(Image.new("1", (4, 2), 1)).tolist() == [[255] * 4] * 2
    assert as_pixels(Image.new("LA", (4, 2), (7, 9))).tolist() == [[[7, 7, 7, 9]] * 4] * 2
    hole = Image.new("P", (4, 2))
    hole.putpalette([1, 2, 3])
    hole.info["transparency"] = 0
    assert as_pixels(hole)[0, 0].tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize(
    ("mode", "way"),
    [(mode, r"convert\('RGB'\)") for mode in ("CMYK", "LAB")] + [(mode, "0..255") for mode in ("I", "I;16", "F", "La")],
)
def test_other_pillow_images_are_refused_by_their_mode(mode: str, way: str) -> None:
    with pytest.raises(TypeError, match=f"Pillow image of mode {mode}, wanted is one of .*RGB.*{way}"):
        as_pixels(Image.new(mode, (4, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, ">u2", "i1", "c8", bool, object])
def test_other_dtypes_name_what_came_and_what_is_wanted(dtype: type) -> None:
    with pytest.raises(TypeError, match=rf"{np.dtype(dtype)} of shape \(2, 3, 3\), wanted is uint8"):
        as_pixels(np.zeros((2, 3, 3), dtype))


@pytest.mark.parametrize(
    ("array", "meant"),
    [
        (np.array([[-0.5, 0.5, 1.5]], np.float32), [[0, 127, 255]]),
        (np.array([[np.nan, 1.0]], np.float16), [[0, 255]]),
        (np.array([[True, False]]), [[255, 0]]),
        (np.array([[0, 256, 65535]], np.uint16), [[0, 1, 255]]),
        (np.array([[0, 256, 65535]], ">u2"), [[0, 1, 255]]),
        (np.array([[-1, 7, 300]]), [[0, 7, 255]]),
        (np.array([[-1, 7]], np.int8), [[0, 7]]),
        (np.zeros((4, 6, 3), np.uint8).view([("r", "u1"), ("g", "u1"), ("b", "u1")])[..., 0], [[[0, 0, 0]] * 6] * 4),
        (np.zeros((3, 4, 6), np.uint8), [[[0, 0, 0]] * 6] * 4),
        (np.zeros((1, 2, 5), np.uint8), [[0] * 5] * 2),
        (np.zeros((1, 2, 5, 3), np.uint8), [[[0, 0, 0]] * 5] * 2),
        (np.zeros((2, 2, 7), np.uint8), [[[0, 0, 0]] * 2] * 2),
        (np.zeros((3, 1, 2), bool).astype(float), [[[0, 0, 0], [0, 0, 0]]]),
    ],
)
def test_the_hint_of_an_error_can_be_pasted(array: np.ndarray[Any, Any], meant: list[Any]) -> None:
    frame = array
    for _ in range(2):  # of another dtype and shape, one after the other
        try:
            frame = as_pixels(frame)
        except (TypeError, ValueError) as error:
            ways = re.findall(
                r"(?:by|of 16 bits|publish one picture of it,|last:|channels,) (.*?)(?:;| are|$)", str(error)
            )
            frame = eval(ways[0], {"np": np, "numpy": numpy, "frame": frame})
    assert as_pixels(frame).tolist() == meant


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (None, "the frame is None, wanted is uint8.*return nothing"),
        ("picture.png", r"a str, wanted is uint8.*PIL\.Image\.open\(frame\)"),
        (Path("picture.png"), r"Path, wanted is uint8.*PIL\.Image\.open\(frame\)"),
        (b"abc", r"a bytes.*reshape\(height, width, 3\)"),
        (as_pixels, r"a function, .*publish what it returns, frame\(\)"),
        (Later(), r"test_frames\.Later, .*await frame"),
        (object(), "a object, wanted is uint8"),
        (7, "a int, wanted is uint8"),
        ([[1, 2], [3]], "a list, wanted is uint8.*inhomogeneous"),
        ([[1, 2], [3, 4]], r"int64 of shape \(2, 2\).*np\.clip\(np\.asarray\(frame\), 0, 255\)"),
        (np.zeros(12, np.uint8), r"shape \(12,\).*reshape\(height, width, 3\)"),
        (OnGpu(), r"test_frames\.OnGpu, .*cuda:0.*copy it to the host first: frame\.detach\(\)\.cpu\(\)\.numpy\(\)"),
        (OnCuda(), r"test_frames\.OnCuda, .*copy it to the host first: frame\.get\(\)"),
        (Boom(), r"test_frames\.Boom, wanted is uint8.*boom"),
        (Figure(), r"matplotlib\.figure\.Figure, .*FigureCanvasAgg\(figure\).*buffer_rgba"),
        (FigureCanvasAgg(Figure()).figure.add_subplot(), r"figure\.canvas\.draw\(\).*buffer_rgba"),
    ],
)
def test_what_is_no_array_is_refused_by_its_type_with_the_way_out(thing: object, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        as_pixels(thing)


@pytest.mark.parametrize("shape", [(5,), (2, 2, 2), (2, 2, 5), (2, 2, 3, 1)])
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


def test_bytes_that_nobody_can_change_are_not_copied(display: rfb.Display) -> None:
    picture, mine = Image.new("RGB", (64, 48), "red"), np.zeros((48, 64, 3), np.uint8)
    for given, copied in ((picture, False), (mine, True), (np.broadcast_to(mine, (48, 64, 3)), True)):
        display.publish(given)
        with stream_of(display).reading() as frame:
            assert frame
            assert frame.owned == copied


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
    assert not store.put(np.zeros((4, 4), np.uint8), 0, copy=True, damage=None, still_wanted=lambda: False)
    frame = store.hold()
    assert frame is not None
    assert (frame.tiles.version, frame.pixels[0, 0]) == (1, 1)


def test_versions_go_on_after_clear() -> None:
    store = FrameStore()
    for version in (1, 2):
        put(store, np.ones((4, 4), np.uint8), copy=True)
        frame = store.hold()
        assert frame
        assert frame.tiles.version == version
        store.clear()
        assert store.hold() is None


def test_a_store_that_is_cleared_while_a_frame_is_copied_keeps_nothing_of_the_frames_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, mine = FrameStore(), np.zeros((200, 64), np.uint8)
    for value in (1, 2, 3):
        put(store, mine + np.uint8(value), copy=True)

    monkeypatch.setattr("pdum_rfb_widget._frames.store._copy_rows", lambda *of: store.clear())
    damage = as_damage([(0, 0, 1, 1)], 64, 200)
    assert store.put(mine, 0, copy=True, damage=damage, still_wanted=lambda: True)
    frame = store.hold()
    assert frame
    assert not frame.pixels.any()


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
        ("qualty", 80, "unknown option qualty; did you mean quality\\? a stream takes fps, quality, codec, image_mode"),
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

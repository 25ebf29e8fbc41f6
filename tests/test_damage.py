"""What changed: found out, named, and merged into few rectangles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import pdum_rfb_widget as rfb
from pdum_rfb_widget._frames.damage import (
    MAX_RECTS,
    TILE,
    Mask,
    TileMap,
    as_damage,
    grid_of,
    merge,
    tiles_that_differ,
    tiles_under,
)
from pdum_rfb_widget._frames.store import FrameStore
from pdum_rfb_widget.types import Pixels

SIZES = [(1, 1), (64, 64), (65, 63), (200, 130), (64, 700), (700, 64)]


def put(store: FrameStore, pixels: Pixels, *, copy: bool = True, damage: Mask | None = None) -> None:
    assert store.put(pixels, 0, copy=copy, damage=damage, still_wanted=lambda: True)


def take(store: FrameStore) -> TileMap:
    frame = store.hold()
    assert frame
    store.release(frame)
    return frame.tiles


# Comparing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.parametrize("size", [*SIZES, (16384, 64), (64, 16384)])
def test_one_byte_anywhere_marks_its_tile_and_no_other(size: tuple[int, int], channels: int) -> None:
    width, height = size
    old = np.zeros((height, width, channels) if channels else (height, width), np.uint8)
    for x, y in {(0, 0), (width - 1, height - 1), (width // 2, height // 3)}:
        new = old.copy()
        new.reshape(height, width, -1)[y, x, -1] = 1
        mask = tiles_that_differ(old, new)
        assert np.argwhere(mask).tolist() == [[y // TILE, x // TILE]]


def test_the_same_picture_has_no_tiles_that_differ() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (131, 77, 3), np.uint8)
    assert not tiles_that_differ(pixels, pixels.copy()).any()


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_those_of_a_plain_comparison(size: tuple[int, int]) -> None:
    width, height = size
    random = np.random.default_rng(5)
    for share in (0.0001, 0.01, 1.0):
        old = random.integers(0, 256, (height, width, 3), np.uint8)
        new = np.where(random.random((height, width, 1)) < share, old + np.uint8(1), old)
        rows, columns = grid_of(width, height)
        different = np.zeros((rows * TILE, columns * TILE), bool)
        different[:height, :width] = (old != new).any(axis=2)
        wanted = different.reshape(rows, TILE, columns, TILE).any(axis=(1, 3))
        np.testing.assert_array_equal(tiles_that_differ(old, new), wanted)


# Merging --------------------------------------------------------------------------------------------------------------


masks = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda shape: arrays(np.bool_, shape))


@given(masks)
@settings(deadline=None)
def test_rectangles_cover_all_that_changed_and_are_few(mask: npt.NDArray[np.bool_]) -> None:
    height, width = (TILE * n - 5 for n in mask.shape)
    rects = merge(mask, width, height)
    assert len(rects) <= MAX_RECTS
    assert (tiles_under(rects, width, height) | ~mask).all()
    assert bool(rects) == bool(mask.any())
    for x, y, w, h in rects:
        assert x % TILE == y % TILE == 0
        assert x + w <= width
        assert y + h <= height
        assert (x + w) % TILE == 0 or x + w == width
        assert (y + h) % TILE == 0 or y + h == height


def test_few_rectangles_cover_nothing_else() -> None:
    mask = np.zeros((8, 12), bool)
    mask[1:4, 2:7] = mask[6, 0] = mask[5:8, 10:] = True
    rects = merge(mask, 12 * TILE, 8 * TILE)
    assert len(rects) == 3
    np.testing.assert_array_equal(tiles_under(rects, 12 * TILE, 8 * TILE), mask)


# Published ------------------------------------------------------------------------------------------------------------


def test_an_unchanged_frame_is_no_new_version() -> None:
    store, frame = FrameStore(), np.full((70, 70, 3), 9, np.uint8)
    put(store, frame)
    first = take(store)
    put(store, frame)
    assert take(store) is first
    put(store, frame[:, ::-1])
    assert take(store) is first, "the same pixels, whatever their strides"
    assert (first.version, store.unchanged) == (1, 2)


def test_versions_say_when_each_tile_last_changed() -> None:
    store, frame = FrameStore(), np.zeros((128, 192), np.uint8)
    for place in ((0, 0), (70, 10), (0, 191)):
        frame[place] = 1
        put(store, frame)
        tiles = take(store)
    assert tiles.changed.tolist() == [[1, 1, 3], [2, 1, 1]]
    mask, rects = tiles.since(1)
    assert (mask.sum(), rects) == (2, ((128, 0, 64, 64), (0, 64, 64, 64)))
    assert tiles.since(3)[1] == ()


def test_frames_that_nobody_takes_are_counted_and_what_they_changed_is_found() -> None:
    store, frame = FrameStore(), np.zeros((128, 192), np.uint8)
    put(store, frame)
    take(store)
    for place in ((0, 0), (70, 10), (0, 191)):
        frame[place] = 1
        put(store, frame)
    tiles = take(store)
    assert (tiles.version, tiles.changed.tolist()) == (4, [[4, 1, 4], [4, 1, 1]])


def test_a_frame_is_compared_once_and_only_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    store, frame, compared = FrameStore(), np.zeros((128, 192), np.uint8), []
    monkeypatch.setattr(
        "pdum_rfb_widget._frames.store.tiles_that_differ",
        lambda old, new: compared.append(new[0, 0]) or tiles_that_differ(old, new),
    )
    for value in range(20):
        put(store, frame + np.uint8(value))
        if value % 10 == 9:
            assert store.pending
            assert take(store) is take(store)
            assert not store.pending
    assert compared == [19], "the first has nothing to be compared with"


def test_a_new_size_or_a_cleared_store_makes_every_tile_new() -> None:
    store = FrameStore()
    for frame in (np.zeros((70, 70), np.uint8), np.zeros((70, 70, 3), np.uint8), np.zeros((9, 300, 3), np.uint8)):
        put(store, frame)
        tiles = take(store)
        assert (tiles.changed == tiles.version).all()
    store.clear()
    put(store, frame)
    tiles = take(store)
    assert (tiles.changed == tiles.version).all()


def test_named_damage_is_believed() -> None:
    store, frame = FrameStore(), np.zeros((128, 128), np.uint8)
    put(store, frame)
    first = take(store)
    frame[:] = 5
    put(store, frame, damage=as_damage([], 128, 128))
    assert take(store) is first
    assert as_damage(np.array([[100, 0, 200, 9]], np.uint8), 128, 128).tolist() == [[False, True], [False, False]]
    put(store, frame, damage=as_damage([(60, 0, 10, 10), (-5, 120, 6, 500)], 128, 128))
    assert take(store).changed.tolist() == [[2, 2], [2, 1]]


def test_named_damage_is_added_up_over_frames_that_nobody_takes() -> None:
    store, frame = FrameStore(), np.zeros((128, 192), np.uint8)
    put(store, frame)
    take(store)
    for x in (0, 64):
        put(store, frame, damage=as_damage([(x, 0, 1, 1)], 192, 128))
    assert take(store).changed.tolist() == [[3, 3, 1], [1, 1, 1]], "believed, though no pixel differs"
    put(store, frame + np.uint8(1))
    put(store, frame + np.uint8(1), damage=as_damage([], 192, 128))
    assert take(store).changed.tolist() == [[5] * 3] * 2, "the one without damage is compared all the same"


def test_a_size_that_nobody_takes_leaves_no_damage_behind() -> None:
    store, frame = FrameStore(), np.zeros((128, 192), np.uint8)
    put(store, frame)
    take(store)
    put(store, np.zeros((64, 64), np.uint8))
    frame[0, 0] = 1
    put(store, frame, damage=as_damage([(64, 64, 1, 1)], 192, 128))
    assert take(store).changed.tolist() == [[3, 1, 1], [1, 1, 1]]


@given(st.lists(st.tuples(st.integers(0, 139), st.integers(0, 149), st.booleans(), st.booleans(), st.booleans())))
def test_whoever_takes_frames_now_and_then_has_the_newest_picture(
    steps: list[tuple[int, int, bool, bool, bool]],
) -> None:
    store, frame = FrameStore(), np.zeros((150, 140), np.uint8)
    canvas, version = np.zeros_like(frame), 0
    for value, (x, y, named, copied, taken) in enumerate([(0, 0, False, True, True), *steps, (0, 0, True, True, True)]):
        frame = frame.copy()
        frame[y : y + 20, x : x + 20] = value + 1
        put(store, frame, copy=copied, damage=as_damage([(x, y, 20, 20)], 140, 150) if named else None)
        if not taken:
            continue
        held = store.hold()
        assert held
        np.testing.assert_array_equal(held.pixels, frame)
        for left, top, width, height in held.tiles.since(version)[1]:
            part = np.s_[top : top + height, left : left + width]
            canvas[part] = held.pixels[part]
        version = held.tiles.version
        np.testing.assert_array_equal(canvas, frame)
        store.release(held)


@pytest.mark.parametrize("copy", [True, False])
def test_every_buffer_holds_the_whole_frame_however_little_changed(copy: bool) -> None:
    store, random, frame = FrameStore(), np.random.default_rng(2), np.zeros((300, 90, 3), np.uint8)
    held = []
    for step in range(60):
        frame = frame.copy()
        y = random.integers(300)
        frame[y : y + 20] = random.integers(256)
        put(store, frame[::-1] if step % 7 == 3 else frame, copy=copy)
        newest_frame = store.hold()
        assert newest_frame
        np.testing.assert_array_equal(newest_frame.pixels, frame[::-1] if step % 7 == 3 else frame)
        held.append(newest_frame)
        if random.random() < 0.7:
            store.release(held.pop(random.integers(len(held))))


def test_a_buffer_that_is_borrowed_twice_counts_as_new() -> None:
    store, frame = FrameStore(), np.zeros((70, 70), np.uint8)
    put(store, frame, copy=False)
    take(store)
    put(store, frame, copy=False)
    assert take(store).version == 2
    put(store, frame.copy(), copy=False)
    assert take(store).version == 2


def test_bytes_that_are_published_twice_are_the_same_picture() -> None:
    store, frame = FrameStore(), np.frombuffer(bytes(70 * 70), np.uint8).reshape(70, 70)
    for pixels in (frame, frame, frame[::-1]):
        put(store, pixels, copy=False)
        assert take(store).version == 1


def test_frames_that_no_memory_is_left_to_compare_count_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(old: Pixels, new: Pixels) -> Mask:
        raise MemoryError

    store, frame = FrameStore(), np.zeros((70, 140), np.uint8)
    put(store, frame)
    take(store)
    monkeypatch.setattr("pdum_rfb_widget._frames.store.tiles_that_differ", compare)
    frame[0, 0] = 1
    put(store, frame)
    assert take(store).changed.tolist() == [[2] * 3] * 2


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (5, "damage is a list of .x, y, width, height. in whole pixels, not 5"),
        ([5], "not .5."),
        ([(1, 2, 3)], r"and \(1, 2, 3\) is none"),
        ([(0, 0, 1.5, 2)], r"and \(0, 0, 1.5, 2\) is none"),
        ([(0, 0, -1, 2)], "has a negative size"),
    ],
)
def test_bad_damage_is_refused_at_the_call(display: rfb.Display, damage: object, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        display.publish(np.zeros((9, 9), np.uint8), damage=damage)

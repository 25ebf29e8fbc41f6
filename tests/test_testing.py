"""What the package has for users' own tests, checked against the real encoder, decoder and sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from viewers import in_thread
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from pdum_rfb_widget import testing
from pdum_rfb_widget.encoders.av1 import Av1Encoder
from pdum_rfb_widget.encoders.h264_cpu import H264CpuEncoder
from pdum_rfb_widget.encoders.video import VideoEncoder
from pdum_rfb_widget.encoders.vp9 import Vp9Encoder
from pdum_rfb_widget.protocol import unpack_binary_message
from pdum_rfb_widget.types import EncodedPayload, RawFrame


def raw(seq: int, width: int = 128, height: int = 96) -> RawFrame:
    pixels = testing.render_test_pattern(seq, width, height)
    return RawFrame(seq, width, height, 33_333 * seq, "rgb24", "cpu", pixels)


def h264(count: int) -> list[bytes]:
    encoder = H264CpuEncoder(width=128, height=96, quality=20)
    payloads = [payload.payload for seq in range(count) for payload in encoder.encode(raw(seq))]
    encoder.close()
    return payloads


def test_each_quadrant_of_each_frame_has_its_colour_and_keeps_it_in_video() -> None:
    shown = [frame.to_ndarray(format="rgb24") for frame in testing.decode_annexb(b"".join(h264(8)))]
    assert len(shown) == 8
    for seq, decoded in enumerate(shown):
        exact = testing.render_test_pattern(seq, 128, 96)
        for quadrant, (row, column) in enumerate(((24, 32), (24, 96), (72, 32), (72, 96))):
            color = testing.expected_quadrant_color(seq, quadrant)
            assert tuple(exact[row, column]) == color
            assert np.abs(decoded[row, column].astype(int) - color).max() < 12
    assert len({testing.expected_quadrant_color(0, quadrant) for quadrant in range(4)}) == 4


def test_patterns_move_and_are_the_same_every_time() -> None:
    for name in ("test_card", "gradient", "surface"):
        first, second = (testing.render_pattern(name, seq, 128, 96) for seq in (0, 1))
        assert first.shape == (96, 128, 3)
        assert (first != second).any()
        np.testing.assert_array_equal(first, testing.render_pattern(name, 0, 128, 96))
    with pytest.raises(ValueError, match="'plaid'"):
        testing.render_pattern("plaid", 0, 128, 96)


def test_the_synthetic_source_renders_its_pattern() -> None:
    source = testing.SyntheticFrameSource(width=128, height=96, pace=False)
    frame = in_thread(source.next_frame)
    np.testing.assert_array_equal(frame.data, testing.render_test_pattern(0, 128, 96))
    assert testing.SyntheticFrameSource(pattern="gradient").render(0, 0).shape == (480, 640, 3)


def test_what_the_encoder_gives_says_how_it_is_decoded() -> None:
    key, delta = h264(2)
    assert testing.starts_with_start_code(key)
    assert not testing.starts_with_start_code(len(key).to_bytes(4, "big") + key)
    assert testing.has_sps_pps_idr(key)
    assert not testing.has_sps_pps_idr(delta)
    assert [kind for kind, _ in testing.parse_nal_units(key)] == testing.nal_types(key)
    units = testing.parse_nal_units(key)
    assert all(unit[0] & 31 == kind and unit in key for kind, unit in units)
    info = testing.h264_sps_reorder_info(key)
    assert (info["max_num_reorder_frames"], info["vui_present"], info["bitstream_restriction_flag"]) == (0, True, True)
    with pytest.raises(ValueError, match="no sequence parameter set"):
        testing.h264_sps_reorder_info(delta)


def test_the_fake_encoder_has_keyframes_where_a_real_one_has() -> None:
    encoder = testing.FakeEncoder(keyframe_interval=3, bitrate=1)
    keys = [encoder.encode(raw(seq), force_keyframe=seq == 4)[0].keyframe for seq in range(7)]
    assert keys == [True, False, False, True, True, False, True]
    encoder.flush()
    assert encoder.encode(raw(7))[0].payload == b"key 7"
    (still,) = encoder.encode_still(raw(8))
    assert (still.keyframe, still.payload) == (True, b"still 8")
    (image,) = testing.FakeEncoder(kind="image").encode(raw(9))
    assert (image.kind, image.mime, image.keyframe) == ("image", "image/jpeg", True)
    encoder.close()
    assert encoder.closed
    with pytest.raises(ValueError, match="'sound'"):
        testing.FakeEncoder(kind="sound")  # type: ignore[arg-type]


def opens(encoder: type[VideoEncoder]) -> Callable[..., Any]:
    return lambda *, pipeline_depth, **settings: encoder(**settings)


@pytest.mark.parametrize("encoder", [H264CpuEncoder, Vp9Encoder, Av1Encoder])
def test_our_encoders_keep_to_the_contract(encoder: type[VideoEncoder]) -> None:
    testing.check_encoder(opens(encoder))


def test_the_contract_can_be_checked_without_a_decoder() -> None:
    testing.check_encoder(testing.FakeEncoder, decode=False)
    with pytest.raises(AssertionError, match="doesn't decode"):
        testing.check_encoder(testing.FakeEncoder)


class Delays:
    """H.264 that is held back as long as it may be, and comes in two parts."""

    def __init__(self, *, pipeline_depth: int, **settings: Any) -> None:
        self.backend, self.depth = H264CpuEncoder(**settings), pipeline_depth
        self.held: list[EncodedPayload] = []
        self.close = self.backend.close

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        self.held += self.backend.encode(frame, force_keyframe=force_keyframe)
        ready = len(self.held) - self.depth
        given, self.held = self.held[: max(0, ready)], self.held[max(0, ready) :]
        return [part for payload in given for part in halves(payload)]

    def flush(self) -> list[EncodedPayload]:
        given, self.held = self.held + self.backend.flush(), []
        return given


def halves(payload: EncodedPayload) -> list[EncodedPayload]:
    middle = len(payload.payload) // 2
    head, tail = payload.payload[:middle], payload.payload[middle:]
    return [replace(payload, payload=head), replace(payload, payload=tail, keyframe=False)]


def test_an_encoder_may_hold_frames_back_and_give_several_payloads_for_one() -> None:
    testing.check_encoder(Delays)
    with pytest.raises(AssertionError, match="with pipeline_depth=2 at most 2 frames are held back, not 3"):
        testing.check_encoder(lambda *, pipeline_depth, **more: Delays(pipeline_depth=pipeline_depth * 2, **more))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"codec": None}, "names no codec"),
        ({"codec": "hvc1.1.6.L93"}, "'hvc1.1.6.L93' is no codec string"),
        ({"timestamp_us": 1}, "timestamp_us 1, which no frame has"),
        ({"seq": 99}, "has seq 99"),
        ({"kind": "image"}, "of kind 'image'"),
        ({"width": 1}, r"of \(96, 64\) pixels says \(1, 64\)"),
        ({"payload": b""}, "is empty"),
        ({"keyframe": False}, "the frame that is the first is no keyframe"),
        ({"payload": b"\0\0\1\x67"}, "doesn't decode"),
    ],
)
def test_the_contract_says_which_field_is_wrong(wrong: dict[str, Any], words: str) -> None:
    class Wrong(H264CpuEncoder):
        def __init__(self, *, pipeline_depth: int, **settings: Any) -> None:
            super().__init__(**settings)

        def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
            return [replace(one, **wrong) for one in super().encode(frame, force_keyframe=force_keyframe)]

    with pytest.raises(AssertionError, match=words):
        testing.check_encoder(Wrong)


def in_colour(self: VideoEncoder, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
    assert frame.pixel_format != "gray8"
    return VideoEncoder.encode(self, frame, force_keyframe=force_keyframe)


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("encode", lambda self, frame, force_keyframe=False: [], "a frame gave no payload at once"),
        ("flush", lambda self: [], "the frame after a flush is no keyframe"),
        ("encode_still", lambda self, frame: self.encode(frame), "the frame of encode_still is no keyframe"),
        ("close", lambda self: 1 / 0, "close.. of an encoder that was not used"),
        ("encode", in_colour, "a frame of grey, gray8, is refused"),
    ],
)
def test_the_contract_says_what_is_done_wrong(name: str, how: Any, words: str) -> None:
    broken = type("Broken", (H264CpuEncoder,), {name: how})
    with pytest.raises(AssertionError, match=words):
        testing.check_encoder(opens(broken))


def test_the_fake_socket_keeps_what_was_sent_and_gives_what_was_injected() -> None:
    async def run() -> tuple[list[str | bytes], list[str | bytes]]:
        socket = testing.FakeWebSocket()
        await socket.send("out")
        socket.inject("one")
        socket.inject(b"two")
        socket.close()
        return [message async for message in socket], socket.sent

    assert in_thread(run) == (["one", b"two"], ["out"])


def test_the_loopback_server_is_a_real_one() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def run() -> str | bytes:
        async with testing.loopback_server(echo) as (host, port), connect(f"ws://{host}:{port}") as socket:
            await socket.send("hello")
            return await socket.recv()

    assert in_thread(run) == "hello"


def test_fixtures_are_binary_messages_and_what_they_say(tmp_path: Path) -> None:
    files = testing.gen_fixtures(tmp_path / "fixtures")
    assert sorted(tmp_path.glob("fixtures/*")) == sorted(files)
    binaries = [path for path in files if path.suffix == ".bin"]
    for path in binaries:
        header, payload = unpack_binary_message(path.read_bytes())
        said = json.loads(path.with_suffix(".json").read_text())
        assert said == {"header": header, "payload_hex": payload.hex()}
    kinds = {path.stem: unpack_binary_message(path.read_bytes())[0]["type"] for path in binaries}
    assert kinds == {"image": "image_frame", "key": "video_chunk", "delta": "video_chunk"}

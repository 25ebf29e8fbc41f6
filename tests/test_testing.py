"""What the package has for users' own tests, checked against the real encoder, decoder and sockets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from viewers import in_thread
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from pdum_rfb_widget import testing
from pdum_rfb_widget.encoders.h264_cpu import H264CpuEncoder
from pdum_rfb_widget.protocol import unpack_binary_message
from pdum_rfb_widget.types import RawFrame


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

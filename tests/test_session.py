"""The rules of flow, each by a list of inputs and a clock that the test moves."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from pdum_rfb_widget._core.session import Message, ViewerSession
from pdum_rfb_widget._core.stream_state import EncodePlan, StreamState
from pdum_rfb_widget._frames.chunk import Chunk
from pdum_rfb_widget._frames.damage import TileMap
from pdum_rfb_widget.protocol import CloseCode, Hello, ProtocolError, unpack_binary_message
from pdum_rfb_widget.types import Encoded, Part, StreamOptions

HELLO = {"type": "hello", "device_pixel_ratio": 1, "token": "right"}
TILES = ("image/jpeg", "image/png", "rfb/tiles")


def accept(hello: Hello) -> None:
    if hello.token != "right":
        raise ProtocolError(CloseCode.BAD_CREDENTIAL, "no")


class Flow:
    """A session, and what was sent to it: `pump` does what a transport would, with payloads of a given size."""

    def __init__(self, *supported: str, local: bool = True, **options: Any) -> None:
        self.state = StreamState(StreamOptions(**options))
        self.session = ViewerSession(self.state, accept, started=0.0, local=local)
        self.supported = supported or ("image/jpeg",)
        self.nbytes = 100
        self.now = 0.0
        self.size = 4, 3
        self.version = 0
        self.sent: list[tuple[int, int]] = []
        self.plans: list[EncodePlan] = []
        self.texts: list[dict[str, Any]] = []

    def open(self) -> Flow:
        self.session.receive(json.dumps(HELLO | {"supported": self.supported}), self.now)
        return self

    def publish(self, times: int = 1, *, tiles: Any = None) -> Flow:
        """Frames that are new as a whole, or in these *tiles* (an index of the tile map)."""
        for _ in range(times):
            self.version += 1
            changed = TileMap.whole(*self.size, self.version).changed
            if tiles is not None:
                assert self.state.newest
                changed = self.state.newest.changed.copy()
                changed[tiles] = self.version
            self.state.published(TileMap(*self.size, self.version, round(self.now * 1e6), changed))
        return self.pump()

    def pump(self) -> Flow:
        while plan := self.session.plan(self.now):
            self.plans.append(plan)
            exact = plan.fidelity.quality is None
            parts = tuple(Part(rect, plan.fidelity.mime, b"", exact) for rect in plan.region.rects)
            for message in self.session.send(plan, Encoded(parts, b"x" * self.nbytes, 1.0), self.now):
                self._take(message)
        return self

    def ack(self, seq: int, **more: Any) -> Flow:
        self.session.receive(json.dumps({"type": "ack", "seq": seq} | more), self.now)
        return self.pump()

    def ack_all(self) -> Flow:
        """Acknowledge what is sent until nothing more comes."""
        while self.session.snapshot(self.now)["inflight"]:
            self.ack(self.sent[-1][0])
        return self

    def say(self, **message: Any) -> Flow:
        self.session.receive(json.dumps(message), self.now)
        return self.pump()

    def event(self, kind: str, **fields: Any) -> Flow:
        return self.say(type="event", event={"type": kind} | fields)

    def at(self, now: float) -> Flow:
        self.now = now
        return self.pump()

    def _take(self, message: Message) -> None:
        if isinstance(message, str):
            self.texts.append(json.loads(message))
        else:
            header, _ = unpack_binary_message(b"".join(message))
            self.sent.append((header["seq"], self.version))


def refused(code: CloseCode) -> Any:
    return pytest.raises(ProtocolError, match=str(code.value))


def test_nothing_is_fed_before_hello() -> None:
    flow = Flow().publish()
    assert flow.sent == []
    assert flow.open().pump().sent == [(1, 1)]


def test_first_message_must_be_hello() -> None:
    with refused(CloseCode.MALFORMED):
        Flow().say(type="ack", seq=1)


def test_wrong_token_is_refused() -> None:
    with refused(CloseCode.BAD_CREDENTIAL):
        Flow().say(type="hello", supported=["image/jpeg"], token="wrong")


def test_what_this_version_does_not_know_is_dropped_and_counted() -> None:
    flow = Flow().open()
    flow.say(type="greetings")
    flow.say(type="event", event={"type": "telepathy"})
    assert flow.session.snapshot(flow.now)["unknown_messages"] == 2


def test_no_hello_within_ten_seconds_is_4408() -> None:
    session = Flow().session
    assert session.closes_at == 10
    session.check(9.99)
    with refused(CloseCode.TIMED_OUT):
        session.check(10)


def test_window_bounds_what_is_in_flight() -> None:
    flow = Flow(max_inflight=2).open()
    for _ in range(5):
        flow.publish()
    assert flow.sent == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("nbytes", "options", "most"), [(100, {}, 8), (40_000, {}, 2), (100, {"max_inflight": 3}, 3), (12_000, {}, 3)]
)
def test_a_long_way_holds_more_of_small_payloads_unless_a_window_was_asked_for(
    nbytes: int, options: dict[str, int], most: int
) -> None:
    flow = Flow(**options).open()
    flow.session.bandwidth.latency = 0.2
    flow.nbytes = nbytes
    for _ in range(20):
        flow.publish()
    assert len(flow.sent) == most


def test_frames_are_skipped_before_encoding_and_the_newest_is_sent_when_there_is_room() -> None:
    flow = Flow(max_inflight=1).open().publish(10)
    assert flow.sent == [(1, 10)]
    flow.publish(5).ack(1)
    assert flow.sent == [(1, 10), (2, 15)]
    assert flow.session.metrics.frames_dropped == 4
    assert not flow.session.stale


def test_last_frame_of_a_burst_arrives_however_late_the_acks() -> None:
    flow = Flow(max_inflight=2).open()
    for _ in range(200):
        flow.publish()
    flow.at(1.9).ack(1).ack(2)
    assert flow.sent[-1] == (3, 200)


def test_an_ack_covers_all_that_was_sent_before() -> None:
    flow = Flow(max_inflight=2).open().publish().publish().publish()
    flow.ack(2)
    assert flow.session.snapshot(flow.now)["inflight"] == 1
    assert flow.sent[-1] == (3, 3)


def test_ack_of_what_was_never_sent_is_malformed() -> None:
    with refused(CloseCode.MALFORMED):
        Flow().open().publish().ack(2)


def test_late_and_repeated_acks_are_harmless() -> None:
    flow = Flow().open().publish().ack(1).ack(1).ack(0)
    assert flow.session.snapshot(flow.now)["inflight"] == 0
    assert flow.session.metrics.frames_acked == 1


def test_request_keyframe_sends_the_newest_again() -> None:
    flow = Flow().open().publish().ack(1).say(type="request_keyframe", reason="lost")
    assert flow.sent == [(1, 1), (2, 1)]


def test_decoder_reset_frees_the_window_and_sends_the_newest_again() -> None:
    flow = Flow(max_inflight=1).open().publish().publish()
    assert flow.sent == [(1, 1)]
    flow.say(type="decoder_reset")
    assert flow.sent == [(1, 1), (2, 2)]


def test_request_keyframe_frees_the_window_of_video_which_the_viewer_may_have_dropped() -> None:
    flow = Flow("webcodecs/h264-annexb", *TILES, max_inflight=2).open()
    tiles = TileMap.whole(4, 3, 1)
    for _ in range(3):  # beyond the window too, as a probe is
        flow.session.enqueue(Chunk(tiles, b"chunk", "avc1", "annexb", False, 1, 1.0))
        assert flow.session.send_chunk(flow.now)
    assert flow.session.video_room_at(flow.now) == math.inf
    flow.say(type="request_keyframe")
    assert flow.session.video_room_at(flow.now) <= flow.now


def test_a_base_viewer_that_lost_its_video_at_rest_gets_an_image_and_costs_the_others_no_keyframe() -> None:
    flow = Flow("webcodecs/h264-annexb", "image/jpeg", codec="h264").open()
    other = ViewerSession(flow.state, accept, started=0.0)
    other.receive(json.dumps(HELLO | {"supported": flow.supported}), 0.0)
    flow.publish()
    assert other.plan(0.0) is None, "it joins the encoder too"
    encoders, newest = flow.state.encoders, flow.state.newest
    (encoder,) = encoders
    assert newest
    take, _ = encoders.take(encoder, newest, 0.0)
    assert take
    chunk = Chunk(newest, b"chunk", "avc1", "annexb", True, encoder.key.rung, 1.0)
    for subscriber in encoders.encoded(encoder, chunk, 0.0):
        subscriber.enqueue(chunk)
    assert len(flow.session.send_chunk(0.0)) == 2, "a config, a keyframe"
    flow.say(type="decoder_reset")
    assert flow.texts[-1]["transport"] == "image"
    assert flow.sent == [(2, 1)]
    assert encoders.take(encoder, newest, 9.0) == (None, math.inf)


def test_request_keyframe_waits_for_pictures_which_the_viewer_does_draw() -> None:
    flow = Flow(max_inflight=1).open().publish().say(type="request_keyframe")
    assert flow.sent == [(1, 1)]
    assert flow.ack(1).sent == [(1, 1), (2, 1)]


def test_requests_before_the_first_frame_send_nothing() -> None:
    assert Flow().open().say(type="request_keyframe").say(type="decoder_reset").sent == []


def test_silence_for_two_seconds_allows_one_probe_and_no_more() -> None:
    flow = Flow(max_inflight=2, stats_interval=None).open().publish().publish().publish()
    assert flow.session.next_look == 2
    assert len(flow.at(1.99).sent) == 2
    assert flow.at(2).sent[-1] == (3, 3)
    flow.publish()
    assert len(flow.at(29).sent) == 3
    assert flow.session.next_look == math.inf
    flow.ack(3)
    assert flow.sent[-1] == (4, 4)


def test_probe_waits_four_round_trips_where_that_is_longer() -> None:
    flow = Flow(max_inflight=1).open().publish().at(1.5).ack(1)
    flow.publish().publish()
    assert len(flow.at(1.5 + 5.9).sent) == 2
    assert len(flow.at(1.5 + 6.0).sent) == 3


def test_thirty_seconds_without_an_ack_is_4408() -> None:
    flow = Flow().open().publish()
    assert flow.session.closes_at == 30
    flow.session.check(29.9)
    with refused(CloseCode.TIMED_OUT):
        flow.session.check(30)


def test_silence_with_nothing_in_flight_is_no_fault() -> None:
    flow = Flow().open().publish().ack(1)
    flow.session.check(1e6)
    assert flow.session.closes_at == math.inf
    assert flow.session.next_look == 1.0, "the stats of the frame that was sent"
    flow.session.stats(1.0)
    assert flow.session.next_look == math.inf


def test_the_clock_of_silence_starts_when_something_is_sent() -> None:
    flow = Flow().open().publish().ack(1).at(100).publish()
    assert flow.session.closes_at == 130


def is_ready(flow: Flow) -> bool:
    """As the stream's agenda has it."""
    return flow.session.has_room and not flow.session.stale


def test_hidden_viewers_are_owed_the_newest_and_get_it_when_shown() -> None:
    flow = Flow().open().publish().ack(1).event("hide").publish(7)
    assert flow.sent == [(1, 1)]
    assert not is_ready(flow)
    assert flow.event("show").sent == [(1, 1), (2, 8)]


def test_ready_is_open_visible_up_to_date_and_with_room() -> None:
    flow = Flow(max_inflight=1)
    assert not is_ready(flow)
    assert is_ready(flow.open())
    flow.publish()
    assert not is_ready(flow), "its window is full"
    assert is_ready(flow.ack(1))
    flow.state.published(TileMap.whole(4, 3, 2))
    assert not is_ready(flow), "it is owed a frame"


def test_config_comes_first_and_again_only_with_a_new_size() -> None:
    flow = Flow(max_inflight=9).open()
    flow.version = 1
    assert [type(m) for m in flow.session.greet(4, 3)] == [str]
    flow.publish().publish()
    assert flow.texts == []
    flow.size = 8, 6
    flow.publish()
    assert [(text["type"], text["width"], text["height"]) for text in flow.texts] == [("config", 8, 6)]


def test_restart_renegotiates_and_sends_nothing_before_the_next_frame() -> None:
    flow = Flow("image/jpeg", "image/webp").open().publish().ack(1)
    flow.state.restart((4, 3), StreamOptions(image_mode="webp"))
    flow.session.restarted()
    assert flow.session.selection is not None
    assert flow.session.selection.lossy == "image/webp"
    assert flow.pump().say(type="request_keyframe").sent == [(1, 1)]
    assert flow.publish().sent == [(1, 1), (2, 2)]


def test_an_ack_of_nothing_new_does_not_renew_the_viewers_time() -> None:
    flow = Flow().open().publish().ack(1).publish().at(29).ack(1).ack(0)
    assert flow.session.closes_at == 30


def test_stats_come_once_an_interval_and_only_after_something_was_sent() -> None:
    flow = Flow(stats_interval=1.0).open()
    assert flow.session.stats(5) == []
    flow.at(5).publish().at(5.25).ack(1)
    *_, message = flow.session.stats(7)
    stats = json.loads(str(message))
    assert stats["type"] == "stats"
    assert stats["rtt_ms"] == 250
    assert stats.keys() >= {"fps_sent", "fps_acked", "bitrate_bps", "encode_ms", "decode_queue_size", "dropped"}
    assert flow.session.stats(9) == []


def test_events_are_returned_and_other_messages_are_not() -> None:
    session = Flow().open().session
    event = {"type": "event", "event": {"type": "key_down", "key": "x"}}
    assert session.receive(json.dumps(event), 0) == {"type": "key_down", "key": "x"}
    assert session.receive('{"type":"request_keyframe"}', 0) is None


# What changed ---------------------------------------------------------------------------------------------------------


def tiled(**options: Any) -> Flow:
    """A viewer of `rfb/tiles` with a frame of 4 x 3 tiles on its canvas."""
    flow = Flow(*TILES, **{"stats_interval": None} | options)
    flow.size = 256, 192
    return flow.open().publish().ack_all()


def test_only_the_tiles_that_changed_are_sent() -> None:
    flow = tiled().publish(tiles=np.s_[1, 2])
    assert flow.plans[-1].region.rects == ((128, 64, 64, 64),)


def test_a_viewer_that_skipped_frames_gets_all_that_changed_in_them() -> None:
    flow = tiled(max_inflight=1).publish(tiles=np.s_[0, 0])
    flow.publish(tiles=np.s_[0, 1]).publish(tiles=np.s_[2, 3])
    assert flow.ack_all().plans[-1].region.rects == ((64, 0, 64, 64), (192, 128, 64, 64))


def test_base_viewers_get_whole_pictures() -> None:
    flow = Flow("image/png", stats_interval=None)
    flow.size = 256, 192
    flow.open().publish().publish(tiles=np.s_[1, 2])
    assert [plan.region.rects for plan in flow.plans] == [((0, 0, 256, 192),)] * 2


@pytest.mark.parametrize("lost", ["decoder_reset", "request_keyframe"])
def test_after_a_loss_everything_is_sent_again_also_what_was_planned_before(lost: str) -> None:
    flow = tiled()
    flow.version += 1
    changed = flow.state.newest.changed.copy()  # type: ignore[union-attr]
    changed[0, 0] = flow.version
    flow.state.published(TileMap(*flow.size, flow.version, 0, changed))
    plan = flow.session.plan(flow.now)
    assert plan
    assert not plan.region.whole
    flow.session.receive(json.dumps({"type": lost}), flow.now)
    flow.session.send(plan, Encoded((), b"", 1.0), flow.now)
    assert flow.pump().plans[-1].region.whole


def test_a_new_size_is_sent_whole_after_its_config() -> None:
    flow = tiled()
    flow.size = 100, 100
    flow.publish()
    assert flow.plans[-1].region.whole
    assert flow.texts[-1]["width"] == 100


# Exact at rest --------------------------------------------------------------------------------------------------------


def moving(**options: Any) -> Flow:
    """A viewer that was just sent a lossy frame of 8 x 8 tiles, at 1 s."""
    flow = Flow(*TILES, **{"stats_interval": None, "quality": "lossy", "still_after": 0.25} | options)
    flow.size = 512, 512
    return flow.open().at(1).publish()


def stills(flow: Flow) -> list[EncodePlan]:
    return [plan for plan in flow.plans if plan.still]


def covered(plans: list[EncodePlan]) -> Any:
    return sum((plan.region.mask.astype(int) for plan in plans[1:]), plans[0].region.mask.astype(int))


def test_what_rests_is_made_exact_once_and_then_nothing_is_sent() -> None:
    flow = moving()
    flow.ack_all()
    assert flow.session.next_look == 1.25
    assert stills(flow.at(1.24)) == []
    flow.at(1.25).ack_all()
    assert (covered(stills(flow)) == 1).all()
    assert all(plan.fidelity.mime == "image/png" for plan in stills(flow))
    assert flow.session.next_look == math.inf
    assert flow.at(99).session.snapshot(99)["lossy_tiles"] == 0


def test_motion_cancels_what_is_not_sent_yet() -> None:
    flow = moving().ack_all().at(1.25)
    begun = len(stills(flow))
    flow.publish().ack_all().at(1.49)
    assert len(stills(flow)) == begun
    flow.at(1.5).ack_all()
    assert flow.session.snapshot(flow.now)["lossy_tiles"] == 0


def test_a_region_that_rests_is_made_exact_while_another_moves() -> None:
    flow = moving().ack_all()
    for step in range(40):
        flow.at(1.02 + step / 50).publish(tiles=np.s_[0, :2]).ack_all()
    painted = covered(stills(flow))
    assert painted[0, :2].sum() == 0, "it moves"
    painted[0, :2] = 1
    assert (painted == 1).all()


def test_a_still_that_was_overtaken_while_it_was_encoded_is_not_sent() -> None:
    flow = moving().ack_all()
    flow.now = 1.3
    plan = flow.session.plan(1.3)
    assert plan
    assert plan.still
    assert flow.session.still_wanted(plan)
    changed = flow.state.newest.changed.copy()  # type: ignore[union-attr]
    changed[~plan.region.mask] = 9
    flow.state.published(TileMap(*flow.size, 9, 1_300_000, changed))
    assert flow.session.still_wanted(plan), "what changed lies elsewhere"
    flow.state.published(TileMap.whole(*flow.size, 10, 1_310_000))
    assert not flow.session.still_wanted(plan)


def test_stills_come_in_pieces_nearest_to_the_pointer_first() -> None:
    flow = moving().event("pointer_move", x=500.0, y=10.0).ack_all()
    flow.session.window.processor.pixel_seconds["exact"] = 1e-6  # a viewer that needs 4 ms for a tile
    flow.at(1.25).ack_all()
    first = stills(flow)[0].region
    assert first.mask[0, 7]
    assert 1 <= first.mask.sum() <= 4
    assert (covered(stills(flow)) == 1).all()


def test_a_large_picture_becomes_exact_in_about_a_thousand_pieces_however_slow_the_viewer() -> None:
    flow = Flow(*TILES, quality="lossy")
    flow.size = 16384, 8192
    flow.open().publish().ack_all()
    flow.session.window.processor.pixel_seconds["exact"] = 1.0
    flow.at(60.0)
    (first, *_) = stills(flow)
    assert 32 <= first.region.mask.sum() <= 36, "a thousandth of the tiles, as a square"


def test_a_still_never_takes_the_last_place_in_the_window() -> None:
    flow = moving(max_inflight=2).ack_all()
    flow.session.window.processor.pixel_seconds["exact"] = 1e-6
    flow.at(1.25)
    assert flow.session.snapshot(flow.now)["inflight"] == 1
    assert len(flow.publish().plans) == 3, "the new frame is sent at once"


@pytest.mark.parametrize("options", [{"still_after": None}, {"quality": "lossless"}])
def test_nothing_settles_where_it_is_off_or_nothing_is_lossy(options: dict[str, Any]) -> None:
    flow = moving(**options).ack_all()
    assert flow.session.next_look == math.inf
    assert stills(flow.at(60)) == []


def test_a_base_viewer_gets_one_exact_picture_when_all_is_at_rest() -> None:
    flow = Flow("image/jpeg", "image/png", quality="lossy", stats_interval=None).open().at(1).publish().ack_all()
    flow.at(1.1).publish(tiles=np.s_[0, 0]).ack_all().at(1.2)
    assert stills(flow) == []
    (still,) = stills(flow.at(1.25).ack_all().at(9))
    assert (still.region.whole, still.fidelity.mime) == (True, "image/png")


def test_a_viewer_without_png_stays_lossy() -> None:
    flow = Flow("image/jpeg", "rfb/tiles", stats_interval=None).open().publish().ack_all()
    assert (flow.session.next_look, stills(flow.at(9))) == (math.inf, [])


# Budget ---------------------------------------------------------------------------------------------------------------


def test_a_remote_viewer_is_sent_no_more_than_the_bitrate_stills_included() -> None:
    flow = Flow(*TILES, local=False, bitrate=800_000, stats_interval=None)
    flow.size, flow.nbytes = (512, 512), 20_000
    flow.open()
    for step in range(600):
        flow.at(1 + step / 60)
        if step < 300:
            flow.publish()
        flow.ack_all()
    # 0.1 MB a second for 10 s, what may be saved up, and the last message.
    assert flow.session.metrics.bytes_sent <= 1_000_000 + 25_000 + 20_100
    assert flow.session.metrics.frames_sent >= 25
    assert flow.sent[-1][1] == 300


def test_frames_that_the_budget_held_back_end_with_the_newest() -> None:
    flow = Flow(*TILES, local=False, bitrate=80_000, stats_interval=None)
    flow.nbytes = 50_000
    flow.open().at(1).publish().ack_all().publish(9)
    assert flow.sent[-1] == (1, 1)
    due = flow.session.next_look
    assert 4 < due < 7
    assert flow.at(due).sent[-1] == (2, 10)


@pytest.mark.parametrize(
    "options", [{"quality": "lossless"}, {"alpha": True}, {"image_mode": "png"}, {"quality": 90}, {}], ids=str
)
def test_a_fast_local_viewer_gets_the_second_frame_though_the_first_was_beyond_the_budget(
    options: dict[str, Any],
) -> None:
    flow = Flow(*TILES, stats_interval=None, **options)
    flow.nbytes = 3_000_000  # two seconds of the default budget
    flow.open().at(1).publish().publish()
    assert flow.sent == [(1, 1)], "nothing is known of the link yet"
    flow.at(1.03).ack(1)
    assert flow.sent == [(1, 1), (2, 2)]


def test_what_rests_is_painted_over_though_frames_leave_the_budget_nothing() -> None:
    flow = Flow(*TILES, local=False, bitrate=2_000_000, stats_interval=None, quality="lossy")
    flow.size, flow.nbytes = (1024, 1024), 20_000
    flow.open().at(1).publish().ack_all()
    for step in range(1, 600):
        flow.at(1 + step / 60).publish(tiles=np.s_[:, :12]).ack_all()
    assert covered(stills(flow))[:, 12:].all()
    assert flow.session.snapshot(flow.now)["lossy_tiles"] == 16 * 12, "what moves"


def test_a_restart_leaves_nothing_to_look_at_before_the_next_frame() -> None:
    flow = moving().ack_all()
    assert flow.session.next_look < math.inf
    flow.state.restart((4, 3), StreamOptions(stats_interval=None))
    flow.session.restarted()
    assert flow.session.next_look == math.inf

"""Video lanes: who shares an encoder, when it takes a frame, and when that is a keyframe."""

from __future__ import annotations

import math

import pytest

from pdum_rfb_widget._core.shared_encoders import (
    DELAY_LIMIT,
    JOIN_INTERVAL,
    LONG_IDLE,
    MAX_ENCODERS,
    Chunk,
    EncodeRequest,
    SharedEncoder,
    SharedEncoders,
)
from pdum_rfb_widget._frames.damage import TileMap
from pdum_rfb_widget.types import DISPLAY_P3, ColorSpace, EncoderKey, VideoFormat

H264 = (VideoFormat("h264", "420"),)


class Member:
    """A viewer that is always owed a frame, and has room from a certain time on."""

    def __init__(self) -> None:
        self.stale = True
        self.only_video_serves = False
        self.too_slow = False
        self.room_at = 0.0
        self.still_due = math.inf
        self.got: list[Chunk] = []
        self.sent_away: list[int] = []

    def video_room_at(self, now: float) -> float:
        return self.room_at

    def evicted(self, lane: EncoderKey, now: float) -> None:
        self.sent_away.append(lane.rung)

    def enqueue(self, chunk: Chunk) -> None:
        self.got.append(chunk)


class Stream:
    """Lanes, and an encoder that is done at once unless it is told to wait."""

    def __init__(self, *members: Member, rung: int = 1) -> None:
        self.encoders = SharedEncoders()
        self.now = 0.0
        self.version = 0
        self.size = 8, 6
        self.newest = TileMap.whole(8, 6, 0)
        self.color: ColorSpace | None = None
        self.taken: list[EncodeRequest] = []
        self.stills = False
        self.keyframes = 0
        for member in members:
            self.join(member, rung)

    def join(self, member: Member, rung: int = 1) -> None:
        self.encoders.place(member, EncoderKey(H264, rung))

    def feeds(self, member: Member) -> bool:
        return self.encoders.feeds(member, self.newest)

    def publish(self, *, after: float = 0.02) -> list[EncodeRequest]:
        self.now += after
        self.version += 1
        self.newest = TileMap.whole(*self.size, self.version, round(self.now * 1e6), color=self.color)
        return self.step()

    def step(self) -> list[EncodeRequest]:
        taken = [(lane, take) for lane in self.encoders if (take := self.encoders.take(lane, self.newest, self.now)[0])]
        for lane, take in taken:
            self.done(lane, take)
        return [take for _, take in taken]

    def done(self, lane: SharedEncoder, take: EncodeRequest) -> None:
        said = b"", "avc1", "annexb", take.keyframe
        chunk = Chunk(take.tiles, *said, lane.key.rung, 1.0, take.still, self.stills)
        for member in self.encoders.encoded(lane, chunk, self.now):
            member.enqueue(chunk)


def keyframes(member: Member) -> list[bool]:
    return [chunk.keyframe for chunk in member.got]


def test_first_is_a_keyframe_and_no_other_without_a_reason() -> None:
    member = Member()
    stream = Stream(member)
    for _ in range(300):
        stream.publish()
    assert keyframes(member) == [True] + [False] * 299


def test_equal_selections_share_one_encoder() -> None:
    members = [Member() for _ in range(8)]
    stream = Stream(*members)
    assert [len(stream.publish()) for _ in range(5)] == [1] * 5
    assert all(member.got == members[0].got for member in members)


def test_a_frame_is_taken_once_however_often_it_is_asked_for() -> None:
    stream = Stream(Member())
    assert len(stream.publish()) == 1
    assert stream.step() == []


def test_a_lane_waits_until_each_follower_has_room() -> None:
    quick, slow = Member(), Member()
    stream = Stream(quick, slow)
    stream.publish()
    slow.room_at = stream.now + 0.05
    assert stream.publish() == []
    stream.now = slow.room_at
    assert len(stream.step()) == 1


def test_who_would_hold_up_the_others_is_sent_away_without_a_keyframe_for_them() -> None:
    follower, slow = Member(), Member()
    stream = Stream(follower)
    stream.publish()
    slow.too_slow = True
    stream.join(slow)
    stream.publish(after=JOIN_INTERVAL)
    assert slow.sent_away == [1]
    assert keyframes(follower) == [True, False]


@pytest.mark.parametrize("case", ["nobody else", "others as slow", "nothing else serves"])
def test_who_is_slow_joins_where_it_holds_up_nobody_or_has_to(case: str) -> None:
    slow, other = Member(), Member()
    stream = Stream(*([] if case == "nobody else" else [other]))
    slow.too_slow, other.too_slow = True, case == "others as slow"
    slow.only_video_serves = case == "nothing else serves"
    if case != "nobody else":
        stream.publish()
    stream.join(slow)
    stream.publish(after=JOIN_INTERVAL)
    assert keyframes(slow) == [True]
    assert slow.sent_away == []


def test_who_joins_waits_for_a_keyframe_and_followers_get_one_a_second() -> None:
    follower = Member()
    stream = Stream(follower)
    stream.publish()
    joiners = []
    for _ in range(100):
        joiners.append(Member())
        stream.join(joiners[-1])
        stream.publish(after=0.02)
    assert all(chunks[:1] == [True] for chunks in map(keyframes, joiners) if chunks), "first a keyframe"
    assert sum(keyframes(follower)) == 1 + math.floor(100 * 0.02 / JOIN_INTERVAL)
    stream.publish(after=JOIN_INTERVAL)
    assert all(joiner.got for joiner in joiners)


def test_who_has_no_room_does_not_join_nor_hold_up_the_first_keyframe() -> None:
    ready, stuck = Member(), Member()
    stuck.room_at = math.inf
    stream = Stream(ready, stuck)
    stream.publish()
    stream.publish()
    assert (keyframes(ready), stuck.got, stuck.sent_away) == ([True, False], [], [])


def test_pictures_feed_who_waits_and_video_who_follows() -> None:
    follower, joiner = Member(), Member()
    stream = Stream(follower)
    assert stream.feeds(follower), "the first keyframe is as near as a picture"
    stream.publish()
    stream.join(joiner)
    stream.publish()
    assert stream.feeds(follower)
    assert not stream.feeds(joiner)
    stream.publish(after=JOIN_INTERVAL)
    assert stream.feeds(joiner)


def test_a_viewer_that_loses_its_decoder_at_rest_is_fed_pictures_though_another_waits_to_join() -> None:
    loses, joiner = Member(), Member()
    stream = Stream(loses)
    stream.publish()
    stream.join(joiner)
    stream.encoders.leave(loses)
    stream.join(loses)
    assert not stream.step(), "nothing is newer than what was encoded"
    assert not stream.feeds(loses)
    stream.publish(after=JOIN_INTERVAL)
    assert keyframes(loses) == [True, True]


def test_while_a_keyframe_is_encoded_who_joins_with_it_gets_no_pictures() -> None:
    first, second = Member(), Member()
    stream = Stream(first)
    (lane,) = stream.encoders
    stream.newest = TileMap.whole(8, 6, 1)
    assert lane.take(stream.newest, 0.0)[0]
    stream.join(second)
    assert stream.feeds(first)
    assert not stream.feeds(second), "it came too late for this one"


def test_one_that_stops_is_sent_away_before_the_others_lose_a_fifth_of_a_second() -> None:
    healthy, dead = Member(), Member()
    stream = Stream(healthy, dead)
    stream.publish()
    dead.room_at = math.inf
    lost = 0
    for _ in range(60):
        lost += not stream.publish(after=1 / 60)
    assert lost <= 12
    assert dead.sent_away == [1]
    assert keyframes(healthy).count(True) == 1, "and it costs them no keyframe"


def test_one_at_half_rate_is_sent_away_and_costs_the_others_few_frames() -> None:
    healthy, half = Member(), Member()
    stream = Stream(healthy, half)
    stream.publish()
    drawn_at = stream.now
    for millisecond in range(1, 5000):
        stream.now = 0.02 + millisecond / 1000
        if millisecond % 16 == 0:
            stream.publish(after=0)
        # It draws one frame every 32 ms, and two may be on their way.
        owed = len(half.got) - int((stream.now - drawn_at) / 0.032)
        half.room_at = 0.0 if owed < 2 else math.inf
        stream.step()
    assert half.sent_away == [1]
    assert len(healthy.got) >= 0.95 * stream.version
    assert keyframes(healthy).count(True) == 1


def test_one_that_is_alone_holds_up_nobody() -> None:
    member = Member()
    stream = Stream(member)
    stream.publish()
    member.room_at = math.inf
    stream.publish(after=10 * DELAY_LIMIT)
    stream.publish(after=10 * DELAY_LIMIT)
    assert member.sent_away == []


def test_short_waits_now_and_then_are_forgiven() -> None:
    healthy, uneven = Member(), Member()
    stream = Stream(healthy, uneven)
    stream.publish()
    for _ in range(200):
        uneven.room_at = stream.now + 0.0219
        stream.publish(after=0.02)
        stream.now += 0.002
        stream.step()
    assert uneven.sent_away == []


@pytest.mark.parametrize("reason", ["size", "color", "idle"])
def test_another_size_another_color_and_a_long_idle_ask_for_a_keyframe(reason: str) -> None:
    member = Member()
    stream = Stream(member)
    stream.publish()
    stream.publish()
    if reason == "size":
        stream.size = 9, 6
    if reason == "color":
        stream.color = DISPLAY_P3
    stream.publish(after=LONG_IDLE + 1 if reason == "idle" else 0.02)
    stream.publish()
    assert keyframes(member) == [True, False, True, False]


def test_who_changes_lanes_is_fed_by_the_old_one_until_the_new_has_a_keyframe() -> None:
    stays, moves = Member(), Member()
    stream = Stream(stays, moves)
    stream.publish()
    stream.join(moves, 2)
    assert stream.feeds(moves)
    stream.publish()
    assert [(chunk.rung, chunk.keyframe) for chunk in moves.got[:3]] in (
        [(1, True), (2, True)],
        [(1, True), (1, False), (2, True)],
    )
    stream.publish()
    assert (moves.got[-1].rung, moves.got[-1].keyframe) == (2, False)
    assert {chunk.rung for chunk in stays.got} == {1}


def test_at_most_three_lanes_and_who_finds_no_place_gets_pictures() -> None:
    stream = Stream()
    members = [Member() for _ in range(4)]
    for rung, member in enumerate(members):
        stream.join(member, rung + 1)
    assert len(list(stream.encoders)) == MAX_ENCODERS
    assert not stream.feeds(members[3])
    stream.join(members[2], 4)
    assert {lane.key.rung for lane in stream.encoders} == {1, 2, 4}, "who is alone in a lane may change it"


def test_a_lane_ends_with_its_last_viewer() -> None:
    stream = Stream()
    for _ in range(500):
        member = Member()
        stream.join(member)
        stream.publish()
        stream.encoders.leave(member)
    assert list(stream.encoders) == []


def test_what_was_taken_for_somebody_who_left_is_for_nobody() -> None:
    member = Member()
    stream = Stream(member)
    (lane,) = stream.encoders
    take, _ = lane.take(TileMap.whole(8, 6, 1), 0.0)
    assert take
    stream.encoders.leave(member)
    stream.done(lane, take)
    assert member.got == []


def test_one_that_nothing_but_video_serves_gets_a_keyframe_of_a_scene_at_rest() -> None:
    follower, lost = Member(), Member()
    stream = Stream(follower)
    stream.publish()
    lost.only_video_serves = True
    stream.join(lost)
    assert stream.step() == []
    (lane,) = stream.encoders
    assert lane.take(stream.newest, stream.now) == (None, stream.now + JOIN_INTERVAL), "it says when to ask again"
    stream.now += JOIN_INTERVAL
    stream.step()
    assert keyframes(lost) == [True]


def test_one_at_rest_starts_no_encoder() -> None:
    member = Member()
    member.stale = False
    stream = Stream(member)
    assert stream.publish() == []


def test_who_waits_without_room_costs_the_others_no_keyframe() -> None:
    healthy, stuck = Member(), Member()
    stream = Stream(healthy)
    stream.publish()
    stuck.room_at = math.inf
    stream.join(stuck)
    for _ in range(600):
        stream.publish(after=1 / 60)
    assert keyframes(healthy).count(True) == 1


def test_a_lane_asks_to_be_asked_when_one_that_holds_it_up_is_to_go() -> None:
    healthy, dead = Member(), Member()
    stream = Stream(healthy, dead)
    stream.publish()
    dead.room_at = math.inf
    stream.publish()
    (lane,) = stream.encoders
    take, look = lane.take(stream.newest, stream.now)
    assert (take, dead.sent_away) == (None, [])
    assert stream.now < look < stream.now + 2 * DELAY_LIMIT
    stream.now = look
    stream.step()
    assert dead.sent_away
    assert healthy.got[-1].tiles is stream.newest


def test_a_dead_follower_does_not_keep_out_who_waits() -> None:
    dead, waits = Member(), Member()
    stream = Stream(dead)
    stream.publish()
    dead.room_at = math.inf
    stream.join(waits)
    for _ in range(120):
        stream.publish(after=1 / 60)
    assert dead.sent_away
    assert keyframes(waits)[0]


def test_of_two_lanes_a_slower_one_never_sends_who_joins_it_an_older_frame() -> None:
    member, other = Member(), Member()
    stream = Stream(member, other)
    stream.publish()
    stream.join(member, 2)
    old, new = stream.encoders
    stream.version += 1
    stream.newest = TileMap.whole(8, 6, stream.version)
    slow, _ = stream.encoders.take(new, stream.newest, stream.now)
    assert slow
    stream.publish()
    stream.done(new, slow)
    versions = [chunk.tiles.version for chunk in member.got]
    assert versions == sorted(versions)
    assert old.subscribers == {other}


def test_one_that_must_have_video_joins_another_lane_where_there_are_too_many() -> None:
    stream = Stream()
    for rung in (1, 2, 3):
        stream.join(Member(), rung)
    poor = Member()
    poor.only_video_serves = True
    stream.join(poor, 4)
    stream.publish()
    assert len(list(stream.encoders)) == MAX_ENCODERS
    assert poor.got


def test_who_leaves_and_comes_back_while_its_encoder_works_opens_no_other() -> None:
    member = Member()
    stream = Stream(member)
    (lane,) = stream.encoders
    stream.newest = TileMap.whole(8, 6, 1)
    take, _ = stream.encoders.take(lane, stream.newest, 0.0)
    assert take
    stream.encoders.leave(member)
    stream.join(member)
    assert list(stream.encoders) == [lane]
    stream.done(lane, take)
    stream.encoders.leave(member)
    assert list(stream.encoders) == []


def test_a_still_comes_once_its_followers_picture_rests_is_for_them_alone_and_begins_the_chain_anew() -> None:
    poor, rich = Member(), Member()
    stream = Stream(poor, rich)
    stream.stills = True
    stream.publish()
    poor.stale = rich.stale = False
    assert stream.step() == []
    poor.still_due = stream.now + 0.15
    (lane,) = stream.encoders
    assert stream.encoders.take(lane, stream.newest, stream.now) == (None, poor.still_due)
    stream.now += 0.15
    (take,) = stream.step()
    assert (take.still, take.keyframe) == (True, True)
    assert [len(member.got) for member in (poor, rich)] == [2, 1]
    assert stream.step() == [], "once"
    poor.stale = rich.stale = True
    assert [(take.still, take.keyframe) for take in stream.publish()] == [(False, True)]
    assert [(take.still, take.keyframe) for take in stream.publish()] == [(False, False)]


def test_no_still_is_taken_without_room_or_of_an_encoder_that_offers_none() -> None:
    member = Member()
    stream = Stream(member)
    stream.publish()
    member.stale, member.still_due = False, 0.0
    assert stream.step() == []
    stream.stills = member.stale = True
    stream.publish()
    member.stale, member.room_at = False, stream.now + 0.3
    (lane,) = stream.encoders
    assert stream.encoders.take(lane, stream.newest, stream.now) == (None, member.room_at)


def test_who_leaves_while_its_keyframe_is_encoded_is_not_fed_by_it() -> None:
    member = Member()
    stream = Stream(member)
    (lane,) = stream.encoders
    assert stream.encoders.take(lane, stream.newest, stream.now)[0]
    assert stream.feeds(member)
    stream.encoders.place(member, None)
    assert not stream.feeds(member), "images are its only way to this frame"

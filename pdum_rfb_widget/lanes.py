"""Video for several viewers at once: who shares an encoder, when it takes a frame, and when that is a keyframe.

A lane encodes one chain of access units for all its followers, and takes the next frame when each of them has room. A
viewer that would join waits for a keyframe, and is fed pictures meanwhile. No I/O, no clock: every call is given the
time in seconds. Owned by the hub's thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from .damage import TileMap
from .types import LaneKey

MAX_LANES = 3
"""Encoders that a stream may run at once."""
JOIN_INTERVAL = 1.0
"""Seconds between two keyframes that a lane's followers get only because others join."""
LONG_IDLE = 10.0
"""Seconds after which the next frame is a keyframe: browsers reclaim decoders that stood idle."""
HELD_LIMIT = 0.12
"""Seconds for which a follower may have held up the others before it has to leave."""
HELD_SHARE = 0.25
"""The share of the time that it may hold them up for ever: on a busy machine each viewer does, now and then."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One access unit of a lane: a frame, as video."""

    tiles: TileMap
    payload: bytes
    codec: str
    """As WebCodecs names it."""
    bitstream: str
    keyframe: bool
    rung: int
    encode_ms: float


class Member(Protocol):
    """What a lane asks of a viewer's session."""

    @property
    def stale(self) -> bool:
        """It is owed a frame."""

    @property
    def only_video_serves(self) -> bool:
        """Nothing but a keyframe can feed it now."""

    def video_room_at(self, now: float) -> float:
        """When its window and its budget have room for a chunk; infinity until it says something."""

    def held_up(self, lane: LaneKey, now: float) -> None:
        """It held up the lane's other followers, and is in it no more."""

    def give(self, chunk: Chunk) -> None:
        """*chunk* is to be sent, in its turn."""


@dataclass(frozen=True, slots=True)
class Take:
    """The newest frame is to be encoded by the lane now."""

    tiles: TileMap
    keyframe: bool
    joining: frozenset[Member]
    """Who follows from this keyframe on."""


@dataclass(slots=True)
class _Held:
    """How long a follower held up the others: a bucket that leaks."""

    at: float
    seconds: float = 0.0
    holding: bool = False


class Lane:
    """The viewers of one encoder."""

    def __init__(self, key: LaneKey) -> None:
        self.key = key
        self.followers: set[Member] = set()
        self.waiting: set[Member] = set()
        """For a keyframe."""
        self._taken: Take | None = None
        self._latest: TileMap | None = None
        self._keyframe_at = -math.inf
        self._held: dict[Member, _Held] = {}

    def leave(self, member: Member) -> None:
        self.followers.discard(member)
        self.waiting.discard(member)
        self._held.pop(member, None)

    def feeds(self, member: Member) -> bool:
        """The newest frame comes to *member* by this lane as soon as there is room."""
        if member in self.followers:
            return True
        if self._taken:
            return member in self._taken.joining
        return member in self.waiting and not self.followers

    def take(self, newest: TileMap, now: float) -> tuple[Take | None, float]:
        """What to encode now; if nothing, when to ask again though nothing came."""
        if self._taken or not self._is_due(newest):
            return None, math.inf
        keyframe = self._next_is_keyframe(newest, now)
        if newest is self._latest and not keyframe:
            return None, self._keyframe_at + JOIN_INTERVAL
        rooms = {member: member.video_room_at(now) for member in self.followers}
        late = {member for member, at in rooms.items() if at > now}
        joining = frozenset(m for m in self.waiting if keyframe and m.video_room_at(now) <= now)
        self._blame(late if len(late) < len(rooms) else set(), now)
        if late & self.followers:
            return None, max(rooms.values())
        if not self.followers and not joining:
            return None, min((member.video_room_at(now) for member in self.waiting), default=math.inf)
        self._taken = Take(newest, keyframe, joining)
        return self._taken, math.inf

    def encoded(self, chunk: Chunk, now: float) -> set[Member]:
        """The taken frame became *chunk*; for whom it is."""
        taken, self._taken = self._taken, None
        assert taken
        self._latest = taken.tiles
        if chunk.keyframe:
            self._keyframe_at = now
            self.followers |= taken.joining & self.waiting
            self.waiting -= taken.joining
        return self.followers

    def _is_due(self, newest: TileMap) -> bool:
        if newest is self._latest:
            return any(member.only_video_serves and member.stale for member in self.waiting)
        return any(member.stale for member in self.followers | self.waiting)

    def _next_is_keyframe(self, newest: TileMap, now: float) -> bool:
        latest = self._latest
        if latest is None or (latest.size, latest.color) != (newest.size, newest.color) or not self.followers:
            return True
        if newest.timestamp_us - latest.timestamp_us > LONG_IDLE * 1e6:
            return True
        return bool(self.waiting) and now >= self._keyframe_at + JOIN_INTERVAL

    def _blame(self, late: set[Member], now: float) -> None:
        """Measure how long each of *late* holds up the others, and send away who did so for too long."""
        for member in tuple(self.followers):
            held = self._held.setdefault(member, _Held(now))
            elapsed = now - held.at
            held.seconds = max(0.0, held.seconds + elapsed * (held.holding - HELD_SHARE))
            held.holding, held.at = member in late, now
            if held.seconds > HELD_LIMIT:
                self.leave(member)
                member.held_up(self.key, now)


class Lanes:
    """The lanes of one stream."""

    def __init__(self) -> None:
        self._lanes: dict[LaneKey, Lane] = {}

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._lanes.values()))

    def place(self, member: Member, wanted: LaneKey | None) -> None:
        """Let *member* join the lane that it wants. The one that it follows goes on until that has a keyframe for it:
        nothing else would be as cheap meanwhile. It has none where it wants none, or there are too many."""
        if wanted and (wanted in self._lanes or self._has_place(member)):
            lane = self._lanes.setdefault(wanted, Lane(wanted))
            if member not in lane.followers:
                lane.waiting.add(member)
            for other in self:
                if other is not lane and (member in lane.followers or member in other.waiting):
                    other.leave(member)
        else:
            for lane in self:
                lane.leave(member)
        self._sweep()

    def leave(self, member: Member) -> None:
        """*member* has gone, or lost what it had decoded: it joins again by `place`."""
        for lane in self:
            lane.leave(member)
        self._sweep()

    def clear(self) -> None:
        """Nobody is in any lane; who was joins again by `place`."""
        self._lanes.clear()

    def feeds(self, member: Member) -> bool:
        """The newest frame comes to *member* by some lane, and not as pictures."""
        return any(lane.feeds(member) for lane in self)

    def encoded(self, lane: Lane, chunk: Chunk, now: float) -> set[Member]:
        """The frame that *lane* took became *chunk*; for whom it is. Empty when nobody is left."""
        if self._lanes.get(lane.key) is not lane:
            return set()
        for member in lane.encoded(chunk, now):
            for other in self:
                if other is not lane and member in other.followers and chunk.keyframe:
                    other.leave(member)
        self._sweep()
        return set(lane.followers)

    def _has_place(self, member: Member) -> bool:
        # A lane that only this viewer is in goes when it changes to another.
        taken = [lane for lane in self if lane.followers | lane.waiting != {member}]
        return len(taken) < MAX_LANES

    def _sweep(self) -> None:
        for key, lane in tuple(self._lanes.items()):
            if not lane.followers and not lane.waiting:
                del self._lanes[key]

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
    still: bool = False
    """A fine keyframe of what was sent before; none that follows refers to it."""
    stills: bool = False
    """The encoder can give such."""


class Member(Protocol):
    """What a lane asks of a viewer's session."""

    @property
    def stale(self) -> bool:
        """It is owed a frame."""

    @property
    def only_video_serves(self) -> bool:
        """Nothing but a keyframe can feed it now."""

    @property
    def dawdles(self) -> bool:
        """It takes frames too slowly to follow them beside others."""

    def video_room_at(self, now: float) -> float:
        """When its window and its budget have room for a chunk; infinity until it says something."""

    @property
    def still_due(self) -> float:
        """When what it shows has come to rest and may be sent finer, as video; infinity where pictures do that."""

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
    """Who follows from this keyframe on; of a still, whom it is for."""
    still: bool = False


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
        self._stills = False
        """Its encoder offers them."""
        self._keyframe_at = -math.inf
        self._held: dict[Member, _Held] = {}

    @property
    def busy(self) -> bool:
        """Its encoder has a frame."""
        return self._taken is not None

    def renew(self, newest: TileMap) -> None:
        """*newest* is to be a keyframe, if it is not the latest: another encoder is wanted."""
        if newest is not self._latest:
            self._latest = None

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
        if self._taken:
            return None, math.inf
        if not self._is_due(newest):
            return self._take_still(newest, now)
        self._refuse(now)
        rooms = {member: member.video_room_at(now) for member in self.followers | self.waiting}
        able = frozenset(member for member in self.waiting if rooms[member] <= now)
        late = {member for member in self.followers if rooms[member] > now}
        punctual = len(late) < len(self.followers) or bool(able)
        held_until = self._blame(late if punctual else set(), now)
        if late & self.followers:
            return None, min(max(rooms[member] for member in late), held_until)
        if not self.followers and not able:
            return None, min((rooms[member] for member in self.waiting), default=math.inf)
        joins_now = bool(able) and now >= self._keyframe_at + JOIN_INTERVAL
        keyframe = self._has_to_begin(newest) or joins_now
        if newest is self._latest and not keyframe:
            return None, self._keyframe_at + JOIN_INTERVAL
        self._taken = Take(newest, keyframe, able if keyframe else frozenset())
        return self._taken, math.inf

    def encoded(self, chunk: Chunk, now: float) -> set[Member]:
        """The taken frame became *chunk*; for whom it is."""
        taken, self._taken = self._taken, None
        assert taken
        self._stills = chunk.stills
        if taken.still:
            self._latest = None  # what follows can't refer to a still, so it begins again
            return self.followers & taken.joining
        self._latest = taken.tiles
        if chunk.keyframe:
            self._keyframe_at = now
            self.followers |= taken.joining & self.waiting
            self.waiting -= taken.joining
        return self.followers

    def _take_still(self, newest: TileMap, now: float) -> tuple[Take | None, float]:
        """A still of the newest frame, for followers that have it and that nothing else makes fine."""
        if not self._stills or newest is not self._latest:
            return None, math.inf
        dues = {member: max(member.still_due, member.video_room_at(now)) for member in self.followers}
        able = frozenset(member for member, due in dues.items() if due <= now)
        if not able:
            return None, min(dues.values(), default=math.inf)
        self._taken = Take(newest, keyframe=True, joining=able, still=True)
        return self._taken, math.inf

    def _is_due(self, newest: TileMap) -> bool:
        if newest is self._latest:
            return any(member.only_video_serves and member.stale for member in self.waiting)
        return any(member.stale for member in self.followers | self.waiting)

    def _has_to_begin(self, newest: TileMap) -> bool:
        """The next frame can't refer to the latest, or had better not."""
        latest = self._latest
        if latest is None or not self.followers or (latest.size, latest.color) != (newest.size, newest.color):
            return True
        return newest.timestamp_us - latest.timestamp_us > LONG_IDLE * 1e6

    def _refuse(self, now: float) -> None:
        """Send away who waits and would hold up quicker followers: to try it would cost those a keyframe."""
        slow = {member for member in self.waiting if member.dawdles and not member.only_video_serves}
        if slow and any(not member.dawdles for member in self.followers):
            for member in slow:
                self.leave(member)
                member.held_up(self.key, now)

    def _blame(self, late: set[Member], now: float) -> float:
        """Measure how long each of *late* holds up the others, and send away who did so for too long; when the next
        one will have."""
        until = math.inf
        for member in tuple(self.followers):
            held = self._held.setdefault(member, _Held(now))
            elapsed = now - held.at
            held.seconds = max(0.0, held.seconds + elapsed * (held.holding - HELD_SHARE))
            held.holding, held.at = member in late, now
            if held.seconds > HELD_LIMIT:
                self.leave(member)
                member.held_up(self.key, now)
            elif held.holding:
                until = min(until, now + (HELD_LIMIT - held.seconds) / (1 - HELD_SHARE) + 1e-3)
        return until


class Lanes:
    """The lanes of one stream."""

    def __init__(self) -> None:
        self._lanes: dict[LaneKey, Lane] = {}

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._lanes.values()))

    def place(self, member: Member, wanted: LaneKey | None, *, must: bool = False) -> bool:
        """Let *member* join the lane that it wants, and say whether it is in one. The one that it follows goes on until
        that has a keyframe for it: nothing else would be as cheap meanwhile. Where there are too many lanes it is in
        none, or, if it *must*, in another that it decodes."""
        if wanted and wanted not in self._lanes and not self._has_place(member):
            wanted = next((key for key in self._lanes if must and key.formats == wanted.formats), None)
        if wanted is None:
            for lane in self:
                lane.leave(member)
        else:
            lane = self._lanes.setdefault(wanted, Lane(wanted))
            if member not in lane.followers:
                lane.waiting.add(member)
            for other in self:
                if other is not lane and (member in lane.followers or member in other.waiting):
                    other.leave(member)
        self._sweep()
        return wanted is not None

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

    def take(self, lane: Lane, newest: TileMap, now: float) -> tuple[Take | None, float]:
        """`Lane.take`; who joins *lane* by it follows no other from here on, since that might be ahead of it."""
        take, look = lane.take(newest, now)
        for member in take.joining if take else ():
            for other in self:
                if other is not lane:
                    other.leave(member)
        return take, look

    def encoded(self, lane: Lane, chunk: Chunk, now: float) -> set[Member]:
        """The frame that *lane* took became *chunk*; for whom it is. Empty when nobody is left."""
        if self._lanes.get(lane.key) is not lane:
            return set()
        members = set(lane.encoded(chunk, now))
        self._sweep()
        return members

    def _has_place(self, member: Member) -> bool:
        # A lane that only this viewer is in goes when it changes to another.
        taken = [lane for lane in self if lane.followers | lane.waiting != {member}]
        return len(taken) < MAX_LANES

    def _sweep(self) -> None:
        for key, lane in tuple(self._lanes.items()):
            # One at work stays for who comes back: a peer that resets its decoder at will opens no encoder each time.
            if not (lane.followers or lane.waiting or lane.busy):
                del self._lanes[key]

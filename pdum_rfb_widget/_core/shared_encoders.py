"""Shared encoders: which viewers share one, when it takes a frame, and when that is a keyframe.

A shared encoder makes one chain of access units for all its subscribers, and takes the next frame when each has room.
A viewer that joins waits for a keyframe, and gets images meanwhile. No I/O, no clock: every call gets the time in
seconds. Owned by the hub's thread.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from .._frames.chunk import Chunk
from .._frames.damage import TileMap
from ..limits import TokenBucket
from ..types import EncoderKey

MAX_ENCODERS = 3
"""Encoders that a stream may run at once."""
JOIN_INTERVAL = 1.0
"""Least seconds between two keyframes that subscribers get only because others join."""
LONG_IDLE = 10.0
"""Seconds without a frame after which the next is a keyframe: browsers reclaim idle decoders."""
DELAY_LIMIT = 0.12
"""Seconds for which a subscriber may delay the others before it is evicted."""
DELAY_SHARE = 0.25
"""The share of time for which delays are forgiven for ever: on a busy machine each viewer causes some now and then."""


class Subscriber(Protocol):
    """A viewer's session, as a shared encoder uses it."""

    @property
    def stale(self) -> bool:
        """True if a newer frame exists than the viewer has."""

    @property
    def only_video_serves(self) -> bool:
        """True if it takes no images: nothing but a keyframe begins or refines what it shows."""

    @property
    def too_slow(self) -> bool:
        """True if it takes frames too slowly to share an encoder."""

    def video_room_at(self, now: float) -> float:
        """Returns when window and budget have room for a chunk; infinity until the viewer sends something."""

    @property
    def still_due(self) -> float:
        """Time from which a finer keyframe of what it shows may follow; infinity if images refine it."""

    def evicted(self, encoder: EncoderKey, now: float) -> None:
        """Records that it delayed the other subscribers, and was evicted."""

    def enqueue(self, chunk: Chunk) -> None:
        """Queues *chunk* to be sent, in its turn."""


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """A request to encode the newest frame now."""

    tiles: TileMap
    keyframe: bool
    joining: frozenset[Subscriber]
    """Subscribers that join at this keyframe; for a still, the subscribers that it is for."""
    still: bool = False


class SharedEncoder:
    """The subscribers of one encoder, and the state of its chain of access units."""

    def __init__(self, key: EncoderKey) -> None:
        self.key = key
        self.fps = 0.0
        """The frame rate that its last keyframe was made for."""
        self.subscribers: set[Subscriber] = set()
        self.joining: set[Subscriber] = set()
        """Subscribers that wait for a keyframe."""
        self._taken: EncodeRequest | None = None
        self._latest: TileMap | None = None
        self._stills = False
        """True if the encoder offers stills."""
        self._keyframe_at = -math.inf
        self._tolerances: defaultdict[Subscriber, TokenBucket] = defaultdict(
            lambda: TokenBucket(DELAY_SHARE, DELAY_LIMIT, 0.0)
        )
        """Seconds for which each may delay the others. A bucket drains while its subscriber does so, and fills
        otherwise."""
        self._late: set[Subscriber] = set()
        """The subscribers without room that the next frame waits for, since `take` was last asked."""

    @property
    def busy(self) -> bool:
        """True while the encoder has a frame."""
        return self._taken is not None

    def renew(self, newest: TileMap) -> None:
        """Makes *newest* a keyframe unless it is the latest: another encoder is wanted."""
        if newest is not self._latest:
            self._latest = None

    def leave(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)
        self.joining.discard(subscriber)
        self._tolerances.pop(subscriber, None)
        self._late.discard(subscriber)

    def feeds(self, subscriber: Subscriber, newest: TileMap) -> bool:
        """True if *newest* will reach *subscriber* through this encoder as soon as there is room."""
        if subscriber in self.subscribers:
            return True
        if self._taken:
            # It may have left since the frame was taken.
            return subscriber in self._taken.joining and subscriber in self.joining
        # No frame is encoded twice: a subscriber that lost it at rest gets images.
        return subscriber in self.joining and not self.subscribers and newest is not self._latest

    def lets_join(self, subscriber: Subscriber, now: float) -> bool:
        """True if the next frame of this encoder may be a keyframe for *subscriber*, which must have room for it."""
        return subscriber in self.joining and self._may_join(now)

    def concerns(self, subscriber: Subscriber, newest: TileMap, now: float) -> bool:
        """True if `take` has to be asked again, as something has changed for *subscriber*. One look at all subscribers
        for each of them would cost the square of their number."""
        if self._taken or not (subscriber in self.subscribers or subscriber in self.joining):
            return False
        if newest is self._latest:
            return subscriber.only_video_serves
        has_room = subscriber.video_room_at(now) <= now
        if has_room and subscriber in self._late:
            first = len(self._late) == len(self.subscribers)  # from now on the others delay it
            self._late.discard(subscriber)
            self._note(subscriber, False, now)
            return first or not self._late
        return not self._late or (has_room and subscriber in self.joining)

    def take(self, newest: TileMap, now: float) -> tuple[EncodeRequest | None, float]:
        """Returns what to encode now; if nothing, when to ask again though nothing came."""
        if self._taken:
            return None, math.inf
        if not self._is_due(newest):
            return self._take_still(newest, now)
        self._refuse(now)
        rooms = {subscriber: subscriber.video_room_at(now) for subscriber in self.subscribers | self.joining}
        able = frozenset(subscriber for subscriber in self.joining if rooms[subscriber] <= now)
        late = {subscriber for subscriber in self.subscribers if rooms[subscriber] > now}
        punctual = len(late) < len(self.subscribers) or bool(able)
        held_until = self._blame(late if punctual else set(), now)
        self._late = late & self.subscribers
        if self._late:
            return None, min(max(rooms[subscriber] for subscriber in self._late), held_until)
        if not self.subscribers and not able:
            return None, min((rooms[subscriber] for subscriber in self.joining), default=math.inf)
        joins_now = bool(able) and self._may_join(now)
        keyframe = self._has_to_begin(newest) or joins_now
        if newest is self._latest and not keyframe:
            has_room = min(rooms[subscriber] for subscriber in self.joining)
            return None, max(self._keyframe_at + JOIN_INTERVAL, has_room)
        self._taken = EncodeRequest(newest, keyframe, able if keyframe else frozenset())
        return self._taken, math.inf

    def encoded(self, chunk: Chunk, now: float) -> set[Subscriber]:
        """Records that the taken frame became *chunk*; returns the subscribers it is for."""
        taken, self._taken = self._taken, None
        assert taken
        self._stills = chunk.stills
        if taken.still:
            self._latest = None  # what follows can't refer to a still, so it begins again
            return self.subscribers & taken.joining
        self._latest = taken.tiles
        if chunk.keyframe:
            self._keyframe_at = now
            self.subscribers |= taken.joining & self.joining
            self.joining -= taken.joining
        return self.subscribers

    def _take_still(self, newest: TileMap, now: float) -> tuple[EncodeRequest | None, float]:
        """Takes a still of the newest frame for subscribers that have it and that nothing else refines."""
        if not self._stills or newest is not self._latest:
            return None, math.inf
        dues = {
            subscriber: max(due, subscriber.video_room_at(now))
            for subscriber in self.subscribers
            if math.isfinite(due := subscriber.still_due)
        }
        able = frozenset(subscriber for subscriber, due in dues.items() if due <= now)
        if not able:
            return None, min(dues.values(), default=math.inf)
        self._taken = EncodeRequest(newest, keyframe=True, joining=able, still=True)
        return self._taken, math.inf

    def _may_join(self, now: float) -> bool:
        return now >= self._keyframe_at + JOIN_INTERVAL

    def _is_due(self, newest: TileMap) -> bool:
        if newest is self._latest:
            return any(subscriber.only_video_serves and subscriber.stale for subscriber in self.joining)
        return any(subscriber.stale for subscriber in self.subscribers | self.joining)

    def _has_to_begin(self, newest: TileMap) -> bool:
        """True if the next frame can't refer to the latest, or had better not."""
        latest = self._latest
        if latest is None or not self.subscribers or (latest.size, latest.color) != (newest.size, newest.color):
            return True
        return newest.timestamp_us - latest.timestamp_us > LONG_IDLE * 1e6

    def _refuse(self, now: float) -> None:
        """Evicts joining viewers that would delay quicker subscribers: to try them would cost those a keyframe."""
        slow = {subscriber for subscriber in self.joining if subscriber.too_slow and not subscriber.only_video_serves}
        if slow and any(not subscriber.too_slow for subscriber in self.subscribers):
            for subscriber in slow:
                self.leave(subscriber)
                subscriber.evicted(self.key, now)

    def _blame(self, late: set[Subscriber], now: float) -> float:
        """Measures how long *late* ones delay others; evicts those over the limit. Returns when the next will be."""
        until = math.inf
        for subscriber in tuple(self.subscribers):
            left = self._note(subscriber, subscriber in late, now)
            if left < 0:
                self.leave(subscriber)
                subscriber.evicted(self.key, now)
            elif subscriber in late:
                until = min(until, now + left / (1 - DELAY_SHARE) + 1e-3)
        return until

    def _note(self, subscriber: Subscriber, holding: bool, now: float) -> float:
        """Records if *subscriber* delays the others from *now* on; returns the seconds for which it still may."""
        tolerance = self._tolerances[subscriber]
        left = tolerance.left(now)
        tolerance.rate = DELAY_SHARE - holding
        return left


class SharedEncoders:
    """The shared encoders of one stream."""

    def __init__(self) -> None:
        self._encoders: dict[EncoderKey, SharedEncoder] = {}

    def __bool__(self) -> bool:
        return bool(self._encoders)

    def __iter__(self) -> Iterator[SharedEncoder]:
        return iter(tuple(self._encoders.values()))

    def place(self, subscriber: Subscriber, wanted: EncoderKey | None) -> None:
        """Lets *subscriber* join the encoder that it wants. It keeps its present encoder until the new one has a
        keyframe for it: nothing else would be as cheap meanwhile. Where there are too many encoders it is in none, or,
        if only video serves it, in another that it decodes."""
        if wanted and wanted not in self._encoders and not self._has_place(subscriber):
            must = subscriber.only_video_serves
            wanted = next((key for key in self._encoders if must and key.formats == wanted.formats), None)
        if wanted is None:
            for encoder in self:
                encoder.leave(subscriber)
        else:
            encoder = self._encoders.setdefault(wanted, SharedEncoder(wanted))
            if subscriber not in encoder.subscribers:
                encoder.joining.add(subscriber)
            for other in self:
                if other is not encoder and (subscriber in encoder.subscribers or subscriber in other.joining):
                    other.leave(subscriber)
        self._sweep()

    def leave(self, subscriber: Subscriber) -> None:
        """Removes *subscriber*, which has gone or lost what it had decoded; it may join again by `place`."""
        for encoder in self:
            encoder.leave(subscriber)
        self._sweep()

    def clear(self) -> None:
        """Removes all encoders; subscribers may join again by `place`."""
        self._encoders.clear()

    def feeds(self, subscriber: Subscriber, newest: TileMap) -> bool:
        """True if *newest* reaches *subscriber* as video, and not as images."""
        return any(encoder.feeds(subscriber, newest) for encoder in self)

    def concern(self, subscriber: Subscriber, newest: TileMap, now: float) -> bool:
        """True if an encoder has to be asked again, as something has changed for *subscriber*."""
        return any(encoder.concerns(subscriber, newest, now) for encoder in self)

    def let_join(self, subscriber: Subscriber, now: float) -> bool:
        """True if the next frame may reach *subscriber* as a keyframe of video."""
        return any(encoder.lets_join(subscriber, now) for encoder in self)

    def take(self, encoder: SharedEncoder, newest: TileMap, now: float) -> tuple[EncodeRequest | None, float]:
        """Calls `SharedEncoder.take`; subscribers that join *encoder* leave the others, which might be ahead of it."""
        take, look = encoder.take(newest, now)
        for subscriber in take.joining if take else ():
            for other in self:
                if other is not encoder:
                    other.leave(subscriber)
        return take, look

    def encoded(self, encoder: SharedEncoder, chunk: Chunk, now: float) -> set[Subscriber]:
        """Records that the frame *encoder* took became *chunk*; returns the subscribers it is for, if any."""
        if self._encoders.get(encoder.key) is not encoder:
            return set()
        subscribers = set(encoder.encoded(chunk, now))
        self._sweep()
        return subscribers

    def _has_place(self, subscriber: Subscriber) -> bool:
        # An encoder that only this viewer is in goes when it changes to another.
        taken = [encoder for encoder in self if encoder.subscribers | encoder.joining != {subscriber}]
        return len(taken) < MAX_ENCODERS

    def _sweep(self) -> None:
        for key, encoder in tuple(self._encoders.items()):
            # A busy one stays for returning subscribers: a peer that resets its decoder at will opens no encoder each
            # time.
            if not (encoder.subscribers or encoder.joining or encoder.busy):
                del self._encoders[key]

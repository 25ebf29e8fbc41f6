"""Metrics of one viewer, and those of all viewers in the text format of Prometheus."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RATE_WINDOW = 1.0
"""Seconds over which rates are computed: short enough to follow a change at once, unlike a lifetime average."""

_MOST_KEPT = 512
_LATEST_SHARE = 0.2


@dataclass(slots=True)
class SessionMetrics:
    """Metrics of one viewer since it connected. All times are in seconds of a clock that the caller chooses."""

    started_at: float = 0.0
    updated_at: float = 0.0
    frames_sent: int = 0
    """Frames sent, without stills, which show nothing new."""
    frames_dropped: int = 0
    """Frames that were published but never sent to this viewer, as it got a newer one."""
    frames_acked: int = 0
    keyframes_sent: int = 0
    bytes_sent: int = 0
    unknown_messages: int = 0
    """Messages and events from the viewer of types that this version doesn't know."""
    encode_ms: float = 0.0
    """Encoding time of the last frame."""
    rtt_ms: float = 0.0
    """Time from sending a payload to its picture on the canvas, averaged over the last few."""
    decode_queue_size: int = 0
    inflight: int = 0
    target_bitrate: int = 0
    """Bits per second; 0 while nothing limits it."""
    target_fps: float = 0.0
    _sent: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=_MOST_KEPT), repr=False)
    _acked: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_KEPT), repr=False)

    def record_encode(self, ms: float, *, now: float) -> None:
        self.encode_ms = ms
        self.updated_at = now

    def record_sent(self, *, payload_bytes: int, keyframe: bool, now: float, still: bool = False) -> None:
        """Record a sent payload; a *still* counts as bytes only."""
        self.bytes_sent += payload_bytes
        self.frames_sent += not still
        self.keyframes_sent += keyframe and not still
        self._sent.append((now, payload_bytes, not still))
        self.updated_at = now

    def record_dropped(self, *, now: float, frames: int = 1) -> None:
        self.frames_dropped += frames
        self.updated_at = now

    def record_ack(self, *, rtt_ms: float | None, decode_queue_size: int, now: float, still: bool = False) -> None:
        """Record an acknowledged payload; *rtt_ms* is None if a later one is acknowledged with it."""
        self.frames_acked += not still
        if not still:
            self._acked.append(now)
        if rtt_ms is not None:
            before = self.rtt_ms
            self.rtt_ms = rtt_ms if before == 0 else before + _LATEST_SHARE * (rtt_ms - before)
        self.decode_queue_size = decode_queue_size
        self.updated_at = now

    def rates(self, *, now: float) -> dict[str, float]:
        """``fps_sent``, ``fps_acked`` and ``bitrate_bps`` over the last `RATE_WINDOW`, or since the viewer connected if
        that is shorter."""
        since = now - RATE_WINDOW
        seconds = min(RATE_WINDOW, now - self.started_at) or RATE_WINDOW
        recent = [(nbytes, frames) for at, nbytes, frames in self._sent if at > since]
        return {
            "fps_sent": sum(frames for _, frames in recent) / seconds,
            "fps_acked": sum(at > since for at in self._acked) / seconds,
            "bitrate_bps": 8 * sum(nbytes for nbytes, _ in recent) / seconds,
        }

    def snapshot(self, *, now: float) -> dict[str, float]:
        """All metrics with the `rates` and ``age_s``, for JSON."""
        names = (name for name in self.__dataclass_fields__ if not name.startswith("_"))
        return {name: getattr(self, name) for name in names} | self.rates(now=now) | {"age_s": now - self.started_at}


_COUNTERS = ("frames_sent", "frames_acked", "frames_dropped", "keyframes_sent", "bytes_sent", "unknown_messages")
_GAUGES = ("encode_ms", "rtt_ms", "decode_queue_size", "inflight", "fps_sent", "fps_acked", "bitrate_bps", "target_fps")

PROMETHEUS = "text/plain; version=0.0.4"
"""The media type of `prometheus_text`. Source: Prometheus's "Exposition formats"."""


def prometheus_text(viewers: Iterable[Mapping[str, Any]]) -> str:
    """Prometheus text of *viewers*: for each the `SessionMetrics.snapshot` with its ``stream`` and ``client_id``."""
    rows = list(viewers)
    lines = []
    for kind, names, suffix in (("counter", _COUNTERS, "_total"), ("gauge", _GAUGES, "")):
        for name in names:
            metric = f"pdum_rfb_{name}{suffix}"
            lines.append(f"# TYPE {metric} {kind}")
            for row in rows:
                # A label's value needs the escapes of JSON, but no escapes for letters beyond ASCII.
                stream, client = (json.dumps(row[name], ensure_ascii=False) for name in ("stream", "client_id"))
                labels = f"stream={stream},client={client}"
                lines.append(f"{metric}{{{labels}}} {row[name]}")
    return "\n".join(lines) + "\n"

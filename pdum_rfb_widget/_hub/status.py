"""A display's state as plain values, and as an HTML table for a notebook cell."""

from __future__ import annotations

import time
from dataclasses import fields
from html import escape
from typing import Any

from .._core.policy.bandwidth import COARSEST
from .._core.shared_encoders import SharedEncoder
from ..types import StreamOptions
from .publication import Publication

_STYLE = "border-collapse: collapse; font-size: 0.9em"
_CELL = "text-align: left; padding: 0.1em 0.8em 0.1em 0"


def status_of(
    publication: Publication, now: float, *, address: str | None, unix_socket: bool, pending: int
) -> dict[str, Any]:
    """The value of `Display.status`. Runs on the hub's loop; *now* is in seconds of its clock."""
    stream = publication.stream
    newest = stream.newest
    age = None if newest is None else round(time.monotonic() - newest.timestamp_us / 1e6, 3)
    return {
        "name": stream.name,
        "state": "closed" if publication.closed else "open",
        "options": _plain(stream.options),
        "size": stream.size,
        "frames_published": stream.frames_published,
        "newest_age_s": age,
        "address": address,
        "unix_socket": unix_socket,
        "pending": pending,
        "clients": [
            {"client_id": viewer.id, "principal": _text(viewer.principal), "view_only": viewer.view_only}
            | {"refused_events": viewer.refused_events, "codec": viewer.session.announcement.codec}
            | viewer.session.snapshot(now)
            for viewer in sorted(stream.viewers, key=lambda viewer: viewer.number)
        ],
        "controller": stream.controller,
        "encoders": [_video(encoder) for encoder in stream.core.state.encoders],
        "encoders_hanging": stream.core.jobs.hanging,
        "recordings": publication.recordings,
        "callback_errors": publication.callbacks.errors,
        "callbacks_left_out": publication.callbacks.left_out,
        "recent_errors": list(stream.recent_errors),
    }


def _plain(options: StreamOptions) -> dict[str, Any]:
    """The *options*, as JSON can express them."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    # An authenticator is named by its type alone: its text may hold a secret.
    authenticate = values["authenticate"] and type(values["authenticate"]).__name__
    return values | {"authenticate": authenticate, "event_log": _text(values["event_log"])}


def _text(principal: Any) -> str | None:
    return None if principal is None else str(principal)


def _video(encoder: SharedEncoder) -> str:
    form, viewers = encoder.key.formats[0], len(encoder.subscribers)
    return f"{form.codec} {form.chroma}, quality {encoder.key.rung} of {COARSEST}, {viewers} viewers"


def as_html(status: dict[str, Any]) -> str:
    """*status* as an HTML table. It holds no secret, and text from viewers is escaped."""
    width, height = status["size"]
    newest = status["newest_age_s"]
    rows = [
        ("frames", f"{status['frames_published']} of {width} × {height}"),
        ("newest", "none yet" if newest is None else f"{newest:.1f} s ago"),
        ("address", status["address"] or "by the notebook's server only"),
        ("viewers", str(len(status["clients"]) or "none")),
        *(("", _viewer(client)) for client in status["clients"]),
        *(("video", encoder) for encoder in status["encoders"]),
        *(("error", error) for error in status["recent_errors"][-3:]),
    ]
    body = "".join(f"<tr>{_cell('th', name)}{_cell('td', value)}</tr>" for name, value in rows)
    title = f"{escape(status['name'])}, {status['state']}"
    return f'<table style="{_STYLE}"><caption style="{_CELL}">Display {title}</caption>{body}</table>'


def _cell(tag: str, text: str) -> str:
    return f'<{tag} style="{_CELL}">{escape(text)}</{tag}>'


def _viewer(client: dict[str, Any]) -> str:
    rate = f"{client['fps_sent']:.0f} frames/s, {client['bitrate_bps'] / 1e6:.1f} Mbit/s, {client['rtt_ms']:.0f} ms"
    notes = [note for note, holds in (("only looks", client["view_only"]), ("hidden", not client["visible"])) if holds]
    if client["no_video"]:
        notes.append(f"no video: {client['no_video']}")
    if client["limit"]:
        notes.append(f"limited by {client['limit']}")
    return ", ".join([client["client_id"], rate, *notes])

"""Encoded video, as it is sent."""

from __future__ import annotations

from dataclasses import dataclass

from .damage import TileMap


@dataclass(frozen=True, slots=True)
class Chunk:
    """One access unit: a frame, encoded as video."""

    tiles: TileMap
    payload: bytes
    codec: str
    """WebCodecs name of the codec."""
    bitstream: str
    keyframe: bool
    rung: int
    encode_ms: float
    still: bool = False
    """True for a fine keyframe of what was sent before; no later chunk refers to it."""
    stills: bool = False
    """True if the encoder can make stills."""

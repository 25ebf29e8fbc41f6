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
    """As WebCodecs names it."""
    bitstream: str
    keyframe: bool
    rung: int
    encode_ms: float
    still: bool = False
    """A fine keyframe of what was sent before; none that follows refers to it."""
    stills: bool = False
    """The encoder can give such."""

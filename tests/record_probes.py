"""Writes the frames that a page tries its decoders with, js/src/decode/probes.ts: python tests/record_probes.py

Each is one keyframe of four flat patches. What a decoder makes of them says whether a format works, and its colours.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from pdum_rfb_widget.encoders.base import video_encoder_for
from pdum_rfb_widget.encoders.bitstream import SEI, split_nal_units
from pdum_rfb_widget.types import RawFrame, VideoFormat

PROBES = Path(__file__).parent.parent / "js/src/decode/probes.ts"
SIZE = 64
PATCHES = ((210, 45, 60), (50, 180, 70), (40, 70, 215), (128, 128, 128))
"""Top left, top right, bottom left, bottom right. Strong, since what goes wrong with colour is seen there."""
FORMATS = (
    ("webcodecs/h264-annexb", VideoFormat("h264", "420"), 6),
    ("rfb/h264-444", VideoFormat("h264", "444"), 6),
    ("rfb/h264-rgb", VideoFormat("h264", "rgb"), 0),
    ("rfb/vp9", VideoFormat("vp9", "420"), 6),
    ("rfb/av1", VideoFormat("av1", "420"), 6),
)
"""Capability, format, and how far a channel may be off."""
BT601 = {"primaries": "bt709", "transfer": "iec61966-2-1", "matrix": "smpte170m", "fullRange": False}
RGB = {**BT601, "matrix": "rgb", "fullRange": True}

HEAD = """// One keyframe of each format, four flat patches in 64x64 pixels. Written by tests/record_probes.py.

export interface Probe {
  capability: string;
  codec: string;
  colorSpace: VideoColorSpaceInit;
  /** The access unit, in base64. */
  data: string;
  /** Red, green and blue of the patches: top left, top right, bottom left, bottom right. */
  patches: [number, number, number][];
  /** How far a channel may be off. */
  tolerance: number;
}

export const PROBES: Probe[] = [
"""


def main() -> None:
    pixels = np.array(PATCHES, np.uint8).reshape(2, 2, 3).repeat(SIZE // 2, axis=0).repeat(SIZE // 2, axis=1)
    entries = []
    for capability, chosen, tolerance in FORMATS:
        quality = 0 if chosen.chroma == "rgb" else 8
        encoder = video_encoder_for(chosen, width=SIZE, height=SIZE, fps=30, quality=quality)
        (payload,) = encoder.encode(RawFrame(0, SIZE, SIZE, 0, "rgb24", "cpu", pixels))
        encoder.close()
        data = without_notes(payload.payload) if chosen.codec == "h264" else payload.payload
        print(capability, payload.codec, len(data), "bytes")
        fields = {
            "capability": capability,
            "codec": payload.codec,
            "colorSpace": RGB if chosen.chroma == "rgb" else BT601,
            "data": base64.b64encode(data).decode(),
            "patches": PATCHES,
            "tolerance": tolerance,
        }
        lines = [f"    {name}: {json.dumps(value)},\n" for name, value in fields.items()]
        entries.append("  {\n" + "".join(lines) + "  },\n")
    PROBES.write_text(HEAD + "".join(entries) + "];\n")


def without_notes(annexb: bytes) -> bytes:
    """Without the SEI in which libx264 names itself, which is longer than the picture."""
    return b"".join(b"\0\0\0\1" + unit for unit in split_nal_units(annexb) if unit[0] & 31 != SEI)


if __name__ == "__main__":
    main()

"""The wire: messages, their validation, and negotiation. Pure functions, no I/O.

Two message forms: JSON text both ways, and from the hub one binary message for each payload, ``uint32 LE header length
| UTF-8 JSON header | payload``. Both sides ignore unknown message types and unknown fields.
"""

from ._wire.envelope import pack_binary_message, pack_header, unpack_binary_message
from ._wire.errors import CloseCode, ProtocolError, UnsupportedClient
from ._wire.from_viewers import (
    Ack,
    ClientMessage,
    DecoderReset,
    Event,
    Got,
    Hello,
    Piece,
    RequestKeyframe,
    Said,
    SetViewport,
    parse,
    parse_control,
    read_piece,
)
from ._wire.names import CHANNELS, CLIPBOARD, MIMES, PROOF, TILES, VIDEO, check_channel
from ._wire.negotiation import negotiate, select_transport
from ._wire.to_viewers import (
    PackedHeaders,
    bitstream_of,
    channel_message,
    chunk_header,
    clipboard_message,
    config_message,
    cursor_message,
    header_for,
    image_header,
    picture_header,
    piece_header,
    proof_message,
    set_quality_message,
    stats_message,
    tiles_header,
    video_header,
)
from .types import BackendSelection, ImageMode

__all__ = [
    "CHANNELS",
    "CLIPBOARD",
    "MIMES",
    "PROOF",
    "TILES",
    "VIDEO",
    "Ack",
    "BackendSelection",
    "ClientMessage",
    "CloseCode",
    "DecoderReset",
    "Event",
    "Got",
    "Hello",
    "ImageMode",
    "PackedHeaders",
    "Piece",
    "ProtocolError",
    "RequestKeyframe",
    "Said",
    "SetViewport",
    "UnsupportedClient",
    "bitstream_of",
    "channel_message",
    "check_channel",
    "chunk_header",
    "clipboard_message",
    "config_message",
    "cursor_message",
    "header_for",
    "image_header",
    "negotiate",
    "pack_binary_message",
    "pack_header",
    "parse",
    "parse_control",
    "picture_header",
    "piece_header",
    "proof_message",
    "read_piece",
    "select_transport",
    "set_quality_message",
    "stats_message",
    "tiles_header",
    "unpack_binary_message",
    "video_header",
]

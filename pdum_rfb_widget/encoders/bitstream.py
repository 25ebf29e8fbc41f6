"""Parsing of bitstreams: NAL units, H.264's sequence parameters, codec strings. Pure functions of bytes.

Sources: ITU-T H.264 (7.3, annexes B and E), RFC 6381 for ``avc1``, the codec ISO media bindings of VP9 and AV1, the
AV1 bitstream specification (5.3 to 5.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

NON_IDR, IDR, SEI, SPS, PPS = 1, 5, 6, 7, 8
"""Types of NAL units."""

_HAVE_CHROMA_FORMAT = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
"""Profiles whose sequence parameters name a chroma format; others are 4:2:0."""
_EXTENDED_SAR = 255


def split_nal_units(annexb: bytes) -> list[bytes]:
    """Returns the NAL units of an Annex B byte stream, without start codes and the zeros around them."""
    starts = []
    at = annexb.find(b"\0\0\1")
    while at >= 0:
        starts.append(at + 3)
        at = annexb.find(b"\0\0\1", at + 3)
    # A unit ends with a bit that is set, so zeros at its end belong to the next start code.
    return [annexb[start : after - 3].rstrip(b"\0") for start, after in pairwise([*starts, len(annexb) + 3])]


def nal_types(annexb: bytes) -> list[int]:
    """Returns the types of the NAL units, in order."""
    return [unit[0] & 31 for unit in split_nal_units(annexb) if unit]


def is_keyframe(annexb: bytes) -> bool:
    """True if the access unit is an IDR, from which decoding may start."""
    return IDR in nal_types(annexb)


# H.264 sequence parameters --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """The fields of an H.264 SPS; None for those that it leaves out."""

    profile_idc: int
    constraints: int
    """The byte of constraint flags, constraint_set0 highest."""
    level_idc: int
    chroma_format_idc: int
    """1 for 4:2:0, 3 for 4:4:4."""
    width: int
    """Shown pixels, after the crop."""
    height: int
    max_num_ref_frames: int
    full_range: bool | None = None
    color: tuple[int, int, int] | None = None
    """Primaries, transfer and matrix, in the code points of ITU-T H.273."""
    max_num_reorder_frames: int | None = None
    max_dec_frame_buffering: int | None = None


def sequence_parameters(annexb: bytes) -> SequenceParameters:
    """Returns the parameters of the first SPS. Raises `ValueError` when there is none, or it ends too early."""
    for unit in split_nal_units(annexb):
        if unit and unit[0] & 31 == SPS:
            return _read_sps(unit)
    raise ValueError("the stream has no sequence parameter set")


def codec_string(annexb: bytes) -> str:
    """Returns the WebCodecs name: ``avc1`` and three bytes of the SPS. Raises `ValueError` when there is none."""
    sps = sequence_parameters(annexb)
    return f"avc1.{sps.profile_idc:02x}{sps.constraints:02x}{sps.level_idc:02x}"


def _read_sps(unit: bytes) -> SequenceParameters:
    bits = _Bits(_without_emulation_prevention(unit[1:]))
    profile, constraints, level = bits.read(8), bits.read(8), bits.read(8)
    bits.ue()  # seq_parameter_set_id
    chroma = 1
    separate = False
    if profile in _HAVE_CHROMA_FORMAT:
        chroma = bits.ue()
        separate = chroma == 3 and bits.flag()
        bits.ue()  # bit_depth_luma_minus8
        bits.ue()  # bit_depth_chroma_minus8
        bits.flag()  # qpprime_y_zero_transform_bypass_flag
        if bits.flag():
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    bits.ue()  # log2_max_frame_num_minus4
    _skip_picture_order_count(bits)
    references = bits.ue()
    bits.flag()  # gaps_in_frame_num_value_allowed_flag
    columns, rows = bits.ue() + 1, bits.ue() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.flag()  # mb_adaptive_frame_field_flag
    bits.flag()  # direct_8x8_inference_flag
    left, right, top, bottom = (bits.ue(), bits.ue(), bits.ue(), bits.ue()) if bits.flag() else (0, 0, 0, 0)
    across = 1 if chroma in (0, 3) or separate else 2
    down = (2 if chroma == 1 else 1) * (1 if frames_only else 2)
    full_range, color, reorder, buffered = _read_vui(bits) if bits.flag() else (None, None, None, None)
    return SequenceParameters(
        profile_idc=profile,
        constraints=constraints,
        level_idc=level,
        chroma_format_idc=chroma,
        width=16 * columns - across * (left + right),
        height=16 * rows * (1 if frames_only else 2) - down * (top + bottom),
        max_num_ref_frames=references,
        full_range=full_range,
        color=color,
        max_num_reorder_frames=reorder,
        max_dec_frame_buffering=buffered,
    )


def _skip_scaling_lists(bits: _Bits, count: int) -> None:
    for number in range(count):
        if not bits.flag():
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                following = (last + bits.se()) % 256
            last = following or last


def _skip_picture_order_count(bits: _Bits) -> None:
    kind = bits.ue()
    if kind == 0:
        bits.ue()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.flag()  # delta_pic_order_always_zero_flag
        bits.se()  # offset_for_non_ref_pic
        bits.se()  # offset_for_top_to_bottom_field
        for _ in range(bits.ue()):
            bits.se()


def _read_vui(bits: _Bits) -> tuple[bool | None, tuple[int, int, int] | None, int | None, int | None]:
    """Returns range, colour, reordered and buffered frames."""
    if bits.flag() and bits.read(8) == _EXTENDED_SAR:
        bits.read(32)
    if bits.flag():
        bits.flag()  # overscan_appropriate_flag
    full_range = color = reorder = buffered = None
    if bits.flag():
        bits.read(3)  # video_format
        full_range = bits.flag()
        if bits.flag():
            color = bits.read(8), bits.read(8), bits.read(8)
    if bits.flag():
        bits.ue()  # chroma_sample_loc_type_top_field
        bits.ue()  # chroma_sample_loc_type_bottom_field
    if bits.flag():
        bits.read(65)  # num_units_in_tick, time_scale, fixed_frame_rate_flag
    for_nal = bits.flag() and _skip_hrd(bits)
    for_vcl = bits.flag() and _skip_hrd(bits)
    if for_nal or for_vcl:
        bits.flag()  # low_delay_hrd_flag
    bits.flag()  # pic_struct_present_flag
    if bits.flag():
        bits.flag()  # motion_vectors_over_pic_boundaries_flag
        for _ in range(4):
            bits.ue()  # max_bytes_per_pic_denom to log2_max_mv_length_vertical
        reorder, buffered = bits.ue(), bits.ue()
    return full_range, color, reorder, buffered


def _skip_hrd(bits: _Bits) -> bool:
    count = bits.ue() + 1
    bits.read(8)  # bit_rate_scale, cpb_size_scale
    for _ in range(count):
        bits.ue()  # bit_rate_value_minus1
        bits.ue()  # cpb_size_value_minus1
        bits.flag()  # cbr_flag
    bits.read(20)
    return True


def _without_emulation_prevention(unit: bytes) -> bytes:
    return unit.replace(b"\0\0\3", b"\0\0")


class _Bits:
    """A reader of bits, from the highest of the first byte on, with the codes of H.264, 9.1."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the parameter set ends too early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return bool(self.read(1))

    def ue(self) -> int:
        zeros = 0
        while not self.flag():
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


# VP9 and AV1 ----------------------------------------------------------------------------------------------------------

_VP9_LEVELS = (
    (10, 829_440, 36_864, 512),
    (11, 2_764_800, 73_728, 768),
    (20, 4_608_000, 122_880, 960),
    (21, 9_216_000, 245_760, 1344),
    (30, 20_736_000, 552_960, 2048),
    (31, 36_864_000, 983_040, 2752),
    (40, 83_558_400, 2_228_224, 4160),
    (41, 160_432_128, 2_228_224, 4160),
    (50, 311_951_360, 8_912_896, 8384),
    (51, 588_251_136, 8_912_896, 8384),
    (52, 1_176_502_272, 8_912_896, 8384),
    (60, 1_176_502_272, 35_651_584, 16832),
    (61, 2_353_004_544, 35_651_584, 16832),
    (62, 4_706_009_088, 35_651_584, 16832),
)
"""Level, then most pixels a second, in a frame and on a side. Source: VP9 Levels, the WebM project."""


def vp9_codec_string(width: int, height: int, fps: float) -> str:
    """Returns ``vp09``, profile 0, the lowest level for this many pixels, eight bits: the stream names no level."""
    pixels = width * height
    fitting = (
        level
        for level, rate, picture, side in _VP9_LEVELS
        if pixels * fps <= rate and pixels <= picture and max(width, height) <= side
    )
    return f"vp09.00.{next(fitting, _VP9_LEVELS[-1][0])}.08"


def av1_codec_string(data: bytes) -> str:
    """Returns ``av01`` with the sequence header's profile, level and tier. Raises `ValueError` when there is none."""
    bits = _Bits(_sequence_header(data)[:32])
    profile = bits.read(3)
    bits.flag()  # still_picture
    if bits.flag():
        return f"av01.{profile}.{bits.read(5):02}M.08"
    if bits.flag():
        raise ValueError("the sequence header has timing information, which is not read here")
    bits.read(1 + 5 + 12)  # initial_display_delay_present_flag, operating_points_cnt_minus_1, operating_point_idc
    level = bits.read(5)
    high_tier = level > 7 and bits.flag()
    return f"av01.{profile}.{level:02}{'H' if high_tier else 'M'}.08"


def _sequence_header(data: bytes) -> bytes:
    """Returns the payload of the first sequence header OBU; every OBU must give its length."""
    at = 0
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1
        size = shift = 0
        while True:
            byte = data[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if header >> 3 & 15 == 1:
            return data[at : at + size]
        at += size
    raise ValueError("the stream has no sequence header")

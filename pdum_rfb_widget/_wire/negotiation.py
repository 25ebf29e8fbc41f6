"""Chooses the formats for a viewer from its capabilities and the stream's options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..types import BackendSelection, ImageMode, Selection, StreamOptions, VideoCodec, VideoFormat
from .errors import CloseCode, UnsupportedClient
from .names import MIMES, TILES, VIDEO


def negotiate(supported: Iterable[str], options: StreamOptions, codecs: Sequence[VideoCodec] = ("h264",)) -> Selection:
    """Chooses the formats for a viewer: lossy images in the stream's own format where the viewer takes it, else in JPEG
    or WebP, exact ones in PNG; video where the stream may use it, of the first of *codecs* that the viewer takes.

    Raises `ProtocolError` with 4406 when the viewer takes none of them.
    """
    offered = set(supported)
    lossy = next((MIMES[mode] for mode in (options.image_mode, "jpeg", "webp") if MIMES[mode] in offered), None)
    exact = MIMES["png"] if MIMES["png"] in offered else None
    if exact and (options.quality == "lossless" or options.image_mode == "png" or options.alpha):
        lossy = None
    lossy = lossy if lossy != exact else None
    video = _negotiate_video(offered, options, codecs, bool(lossy), bool(lossy or exact))
    if not (lossy or exact or video):
        takes = ", ".join(MIMES.values()) + (f", {next(iter(VIDEO))}" if codecs else "")
        raise UnsupportedClient(CloseCode.NO_FORMAT, f"the viewer takes none of {takes}")
    return Selection(lossy, exact, TILES in offered, video)


def select_transport(
    client_supported: Iterable[str],
    *,
    has_h264: bool,
    has_nvenc: bool = False,
    prefer_video: bool = True,
    image_mode: ImageMode = "jpeg",
) -> BackendSelection:
    """Chooses for one encoder and one viewer as `negotiate` does, in the form for `build_encoder`: H.264 where both
    have it, unless *prefer_video* is false and the viewer takes images too; else *image_mode* or the next best.

    Raises `UnsupportedClient` where there is nothing.
    """
    options = StreamOptions(codec="h264", image_mode=image_mode)
    chosen = negotiate(client_supported, options, ("h264",) if has_h264 or has_nvenc else ())
    if chosen.video and (prefer_video or not chosen.pictures):
        return BackendSelection("webcodecs")
    mime = chosen.lossy or chosen.exact
    return BackendSelection("image", mime, image_mode=next(mode for mode, name in MIMES.items() if name == mime))


def _negotiate_video(
    offered: set[str], options: StreamOptions, codecs: Sequence[VideoCodec], lossy: bool, pictures: bool
) -> tuple[VideoFormat, ...]:
    if options.codec == "none" or options.alpha:
        return ()
    if options.codec == "auto" and pictures and (not lossy or isinstance(options.quality, int)):
        return ()  # the stream asks for a quality of images
    formats = [form for name, form in VIDEO.items() if name in offered and form.codec in codecs]
    if options.quality == "lossless" and pictures:
        return tuple(form for form in formats if form.chroma == "rgb")
    for codec in codecs:
        if chosen := tuple(form for form in formats if form.codec == codec and form.chroma != "rgb"):
            return chosen
    return ()

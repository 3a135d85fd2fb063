"""The table of output formats, with one row per value of `video_output_type`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import BT709, BT709_TRANSFER, BT2020, PixelLayout

Options = dict[str, str]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """Encoder and container settings of one output type.

    codec, pixel_format: of a piece; mask_pixel_format: of a piece of the mask.
    quality, speed, options: options per quality, per write mode, and constant ones, for the encoder (GIF: `Painter`).
    shift: added to the quality option, so that a slower write mode gives a smaller file instead of a better one.
    even: width and height must be even.
    reorder: the maximum number of frames by which the encoder sends a frame early.
    subsampling, depth, rgb, limited: required layout of the colour planes; `limited` demands limited range.
    square_samples: other sample aspect ratios cannot be written, or few players support them.
    copied_audio: codecs that are copied to the container; others are re-encoded with `audio_encoder`.
    """

    container: str
    content_type: str
    codec: str
    pixel_format: str
    mask_pixel_format: str
    quality: Mapping[Quality, Mapping[str, str]]
    speed: Mapping[WriteMode, Mapping[str, str]]
    options: Mapping[str, str] = field(default_factory=dict)
    shift: Mapping[WriteMode, float] = field(default_factory=dict)
    alpha: bool = True
    even: bool = False
    reorder: int = 0
    subsampling: Literal["420", "444"] = "420"
    depth: Literal[8, 10] = 8
    rgb: bool = False
    limited: bool = False
    square_samples: bool = False
    copied_audio: frozenset[str] = frozenset()
    audio_encoder: str = ""

    @property
    def extension(self) -> str:
        return self.container

    @property
    def is_gif(self) -> bool:
        """GIF pieces cannot be concatenated: the join quantises and encodes all frames."""
        return self.container == "gif"

    @property
    def is_quicktime(self) -> bool:
        """MP4 or MOV, which have exact timestamps and edit lists."""
        return self.container in ("mp4", "mov")

    def encoder_options(self, quality: Quality, write_mode: WriteMode) -> Options:
        """All options for a quality and write mode."""
        shift = self.shift.get(write_mode, 0)
        by_quality = {name: f"{float(value) + shift:g}" for name, value in self.quality[quality].items()}
        return {**self.options, **by_quality, **self.speed[write_mode]}

    def timescale(self, time_base: Fraction) -> Fraction:
        """The container's time base, which represents the source's times exactly where possible."""
        if not self.is_quicktime:
            return Fraction(1, 1000)
        return Fraction(1, time_base.denominator if time_base.denominator < _MAX_TIMESCALE else 90_000)

    def muxer_options(self, time_base: Fraction) -> Options:
        """Options for reproducible files with times in `time_base`."""
        options = {"fflags": "+bitexact"}
        if self.is_quicktime:
            ticks = str(self.timescale(time_base).denominator)
            options |= {"video_track_timescale": ticks, "movie_timescale": ticks}  # of frames, of edit lists
        return options


def _by_quality(name: str, low: int, medium: int, high: int, maximum: int) -> dict[Quality, Options]:
    return {
        quality: {name: str(value)}
        for quality, value in zip(Quality, (low, medium, high, maximum), strict=True)
    }


def _by_mode(fast: Options, balanced: Options, small: Options) -> dict[WriteMode, Options]:
    return {WriteMode.FAST: fast, WriteMode.BALANCED: balanced, WriteMode.SMALL: small}


_MAX_TIMESCALE = 1 << 31
_WIDE = (BT2020, 12)  # primaries with a wider gamut than BT.709; 12 is P3
_ONE_GROUP = "9999"  # frames: a piece has one keyframe, its first
_QUANTISER = 118  # FFmpeg's lambda for a quantiser of 1

_FORMATS = {
    OutputType.MP4: OutputFormat(
        container="mp4",
        content_type="video/mp4",
        codec="libx264",
        pixel_format="yuv420p",
        mask_pixel_format="yuv420p",
        alpha=False,
        even=True,
        reorder=2,  # B-frames with a pyramid
        options={"g": _ONE_GROUP, "profile": "high"},
        quality=_by_quality("crf", 28, 23, 18, 12),
        speed=_by_mode({"preset": "veryfast"}, {"preset": "medium"}, {"preset": "slow"}),
        shift={WriteMode.FAST: -1, WriteMode.SMALL: 0.5},
        copied_audio=frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"}),
        audio_encoder="aac",
    ),
    OutputType.WEBM: OutputFormat(
        container="webm",
        content_type="video/webm",
        codec="libvpx-vp9",
        pixel_format="yuva420p",
        mask_pixel_format="yuv420p",
        square_samples=True,  # PyAV has no way to write a WebM's display size
        # Alternate reference frames do not work with alpha. Scene cuts would place keyframes in the colour
        # but not in the alpha, which is a stream of its own: players could not seek there.
        options={"g": _ONE_GROUP, "keyint_min": _ONE_GROUP, "b": "0", "row-mt": "1", "auto-alt-ref": "0"},
        quality=_by_quality("crf", 40, 32, 24, 15),
        # "realtime" with 5 or more leaves ghosts of up to 28/255 in the alpha, far from the subject; 4 has none and
        # files are a seventh smaller, for twice the time.
        speed=_by_mode(
            {"deadline": "realtime", "cpu-used": "4"},
            {"deadline": "good", "cpu-used": "2"},
            {"deadline": "good", "cpu-used": "1"},
        ),
        copied_audio=frozenset({"opus", "vorbis"}),
        audio_encoder="libopus",
    ),
    OutputType.MOV: OutputFormat(
        container="mov",
        content_type="video/quicktime",
        codec="prores_ks",
        pixel_format="yuva444p10le",
        mask_pixel_format="yuv444p10le",
        subsampling="444",
        depth=10,
        limited=True,  # as all ProRes
        # Alpha is coded losslessly, and a matte has 8 bits.
        options={"profile": "4444", "alpha_bits": "8", "flags": "+qscale"},
        # A constant quantiser instead of bits per macroblock gives 2.5 dB more at the same size in a fifth of the
        # time, as the encoder need not search for each slice's quantiser. The write modes are its three finer
        # matrices; the coarser ones spend less on detail too fine to be seen.
        quality=_by_quality("global_quality", 8 * _QUANTISER, 4 * _QUANTISER, 2 * _QUANTISER, _QUANTISER),
        speed=_by_mode({"quant_mat": "hq"}, {"quant_mat": "standard"}, {"quant_mat": "lt"}),
        copied_audio=frozenset(
            {"aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
             "pcm_s32be", "pcm_f32le", "pcm_f32be"}
        ),
        audio_encoder="pcm_s24le",
    ),
    OutputType.GIF: OutputFormat(
        container="gif",
        content_type="image/gif",
        codec="utvideo",
        pixel_format="gbrap",
        mask_pixel_format="yuv444p",
        subsampling="444",
        rgb=True,
        square_samples=True,
        quality=_by_quality("colours", 64, 128, 192, 256),
        speed=_by_mode(
            {"dither": "0.5", "slack": "0"},
            {"dither": "0.5", "slack": "0.5"},
            {"dither": "0", "slack": "1"},
        ),
    ),
}  # fmt: skip


def output_format(output_type: OutputType, mask: bool = False) -> OutputFormat:
    """The format of `output_type`, or of its mask: the same without alpha."""
    form = _FORMATS[output_type]
    return replace(form, pixel_format=form.mask_pixel_format, alpha=False) if mask else form


def has_alpha(output_type: OutputType) -> bool:
    """Whether the output has an alpha channel. Without one, colour is composited over black."""
    return output_format(output_type).alpha


def cutout_layout(
    source: PixelLayout, output_type: OutputType, aspect: Fraction = Fraction(1), keep_hdr: bool = True
) -> PixelLayout:
    """The layout of a cutout's colour for `output_type`: the source's size and colours with the output's subsampling
    and depth, without alpha. The encoder pads to even sizes.

    Where the output requires square samples, samples with another `aspect` (width : height) are scaled up. HDR becomes
    BT.709, unless `keep_hdr` and the output has 10 bits.
    """
    form = output_format(output_type)
    layout = replace(source, subsampling=form.subsampling, depth=form.depth, alpha=False)
    if form.square_samples:
        layout = _squared(layout, aspect)
    if form.subsampling == "444":
        layout = replace(layout, chroma_site="left")
    if (source.hdr and not (keep_hdr and form.depth == 10)) or (form.rgb and source.primaries in _WIDE):
        layout = replace(layout, matrix="bt709", full_range=False, primaries=BT709, transfer=BT709_TRANSFER)
    if form.rgb:
        return replace(layout, matrix="rgb", full_range=True)
    if layout.matrix == "rgb":
        matrix: Literal["bt709", "bt2020"] = "bt2020" if layout.primaries == BT2020 else "bt709"
        return replace(layout, matrix=matrix, full_range=False)
    return replace(layout, full_range=layout.full_range and not form.limited)


def output_aspect(output_type: OutputType, aspect: Fraction) -> Fraction:
    """The sample aspect ratio of the output: the source's, or 1 if the output requires square samples."""
    return Fraction(1) if output_format(output_type).square_samples else aspect


def _squared(layout: PixelLayout, aspect: Fraction) -> PixelLayout:
    if aspect > 1:
        return replace(layout, width=round(layout.width * aspect))
    return replace(layout, height=round(layout.height / aspect))

"""The table of output formats: one row per value of `video_output_type`, everything else looks things up here."""

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
    """How one output type is written.

    `codec` and `pixel_format` are those of a piece. `quality` and `speed` hold the options for each quality and
    write mode, `options` those that never change; they are the encoder's, or the painter's of a GIF. `shift` is
    added to the number that stands for the quality, so that a slower write mode gives a smaller file and not a
    better one.

    `reorder`: by how many frames the encoder may send a frame ahead of its turn. `even`: both sides must be
    even. `subsampling`, `depth` and `rgb` say how colour arrives. `square_samples`: no other aspect can be written, or
    hardly a player heeds it. `copied_audio`: codecs that go into the
    container as they are; others become `audio_encoder`.
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
        """Pieces cannot be joined as they are: one palette and one encoder come at the end."""
        return self.container == "gif"

    @property
    def is_quicktime(self) -> bool:
        """MP4 and its parent MOV: exact times, edit lists."""
        return self.container in ("mp4", "mov")

    def dials(self, quality: Quality, write_mode: WriteMode) -> Options:
        """The options for one field of the table."""
        shift = self.shift.get(write_mode, 0)
        dial = {name: f"{float(value) + shift:g}" for name, value in self.quality[quality].items()}
        return {**self.options, **dial, **self.speed[write_mode]}

    def timescale(self, time_base: Fraction) -> Fraction:
        """The finest time base of this container that holds the source's times exactly, if there is one."""
        if not self.is_quicktime:
            return Fraction(1, 1000)
        return Fraction(1, time_base.denominator if time_base.denominator < _MAX_TIMESCALE else 90_000)

    def muxer_options(self, time_base: Fraction) -> Options:
        """For a file whose times come from `time_base`; the same input gives the same bytes."""
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
_WIDE = (BT2020, 12)  # primaries beyond those of BT.709; 12 is P3
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
        # "realtime" from 5 on leaves ghosts of up to 28/255 in the alpha, far from the subject; at 4 they are gone and
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
        limited=True,  # all ProRes is
        # Alpha is coded without loss, and a matte has 8 bits.
        options={"profile": "4444", "alpha_bits": "8", "flags": "+qscale"},
        # A quantiser for all, not a number of bits per macroblock: at the same size that gives 2.5 dB more in a
        # fifth of the time, as the encoder need not search for each slice's quantiser. The write modes are
        # its three finer matrices; the coarser ones spend less on detail too fine to be seen.
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
    """The row for `output_type`, or for a mask of that type: the same without alpha."""
    form = _FORMATS[output_type]
    return replace(form, pixel_format=form.mask_pixel_format, alpha=False) if mask else form


def has_alpha(output_type: OutputType) -> bool:
    """Whether the output carries the matte as an alpha channel; without one, colour lies over black."""
    return output_format(output_type).alpha


def cutout_layout(
    source: PixelLayout, output_type: OutputType, aspect: Fraction = Fraction(1), keep_hdr: bool = True
) -> PixelLayout:
    """The layout in which the colour of a cutout is delivered for `output_type`: the source's size and colours in
    the output's sampling and depth, without alpha. Padding to even sizes is the encoder's work.

    Samples of another `aspect` (width : height) become square, by enlarging, where the container cannot say so.
    HDR becomes BT.709 but in ten bits, where `keep_hdr` keeps it.
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
    """The aspect of the output's samples: the source's, or 1 where they became square."""
    return Fraction(1) if output_format(output_type).square_samples else aspect


def _squared(layout: PixelLayout, aspect: Fraction) -> PixelLayout:
    if aspect > 1:
        return replace(layout, width=round(layout.width * aspect))
    return replace(layout, height=round(layout.height / aspect))

"""The table of output formats: one row per value of `video_output_type`, everything else looks things up here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from serve_app.errors import FeatureNotSupported
from serve_app.protocols import OutputType, PixelLayout, Quality, WriteMode

Options = dict[str, str]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How one output type is written.

    `quality` and `speed` hold the encoder's options for each quality and write mode, `options` those that
    never change. `reorder`: by how many frames the encoder may send a frame ahead of its turn. `even`: both
    sides must be even. `copied_audio`: codecs that go into the container as they are; others become
    `audio_encoder`.
    """

    container: str
    extension: str
    content_type: str
    codec: str
    pixel_format: str
    alpha: bool
    even: bool
    reorder: int
    options: Mapping[str, str]
    quality: Mapping[Quality, Mapping[str, str]]
    speed: Mapping[WriteMode, Mapping[str, str]]
    muxer: Mapping[str, str]
    copied_audio: frozenset[str]
    audio_encoder: str

    def encoder_options(self, quality: Quality, write_mode: WriteMode) -> Options:
        return {**self.options, **self.quality[quality], **self.speed[write_mode]}

    def timescale(self, time_base: Fraction) -> Fraction:
        """The finest time base of this container that holds the source's times exactly, if there is one."""
        if self.container != "mp4":
            return Fraction(1, 1000)
        return Fraction(1, time_base.denominator if time_base.denominator < _MAX_TIMESCALE else 90_000)

    def muxer_options(self, time_base: Fraction) -> Options:
        """For a file whose times come from `time_base`; the same input gives the same bytes."""
        options = {"fflags": "+bitexact", **self.muxer}
        if self.container == "mp4":
            ticks = str(self.timescale(time_base).denominator)
            options |= {"video_track_timescale": ticks, "movie_timescale": ticks}  # the second is of edit lists
        return options


def _by_quality(low: int, medium: int, high: int, maximum: int) -> dict[Quality, Options]:
    return {quality: {"crf": str(crf)} for quality, crf in zip(Quality, (low, medium, high, maximum), strict=True)}


def _by_mode(fast: Options, balanced: Options, small: Options) -> dict[WriteMode, Options]:
    return {WriteMode.FAST: fast, WriteMode.BALANCED: balanced, WriteMode.SMALL: small}


_MAX_TIMESCALE = 1 << 31
_ONE_GROUP = "9999"  # frames: a piece has one keyframe, its first

_FORMATS = {
    OutputType.MP4: OutputFormat(
        container="mp4",
        extension="mp4",
        content_type="video/mp4",
        codec="libx264",
        pixel_format="yuv420p",
        alpha=False,
        even=True,
        reorder=2,  # B-frames with a pyramid
        options={"g": _ONE_GROUP, "profile": "high"},
        quality=_by_quality(28, 23, 18, 12),
        speed=_by_mode({"preset": "veryfast"}, {"preset": "medium"}, {"preset": "slow"}),
        muxer={},
        copied_audio=frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"}),
        audio_encoder="aac",
    ),
    OutputType.WEBM: OutputFormat(
        container="webm",
        extension="webm",
        content_type="video/webm",
        codec="libvpx-vp9",
        pixel_format="yuva420p",
        alpha=True,
        even=False,
        reorder=0,
        # Alternate reference frames do not work with alpha. Scene cuts would place keyframes in the colour
        # but not in the alpha, which is a stream of its own: players could not seek there.
        options={"g": _ONE_GROUP, "keyint_min": _ONE_GROUP, "b": "0", "row-mt": "1", "auto-alt-ref": "0"},
        quality=_by_quality(40, 32, 24, 15),
        # "good" stops getting faster at 5; "realtime" is six times as fast there, for a quarter more bytes.
        speed=_by_mode(
            {"deadline": "realtime", "cpu-used": "6"},
            {"deadline": "good", "cpu-used": "4"},
            {"deadline": "good", "cpu-used": "1"},
        ),
        muxer={},
        copied_audio=frozenset({"opus", "vorbis"}),
        audio_encoder="libopus",
    ),
}  # fmt: skip


def output_format(output_type: OutputType) -> OutputFormat:
    """The row for `output_type`. Raises `FeatureNotSupported` for a type that cannot be written yet."""
    if output_type not in _FORMATS:
        able = ", ".join(f"'{known}'" for known in _FORMATS)
        raise FeatureNotSupported(
            f"'{output_type}' cannot be written by this service yet; use one of {able}.", "video_output_type"
        )
    return _FORMATS[output_type]


def has_alpha(output_type: OutputType) -> bool:
    """Whether the output carries the matte as an alpha channel; without one, colour lies over black."""
    return output_format(output_type).alpha


def cutout_layout(source: PixelLayout, output_type: OutputType) -> PixelLayout:
    """The layout in which the colour of a cutout is delivered for `output_type`: the source's size and colours
    in 8-bit 4:2:0 without alpha. Padding to even sizes is the encoder's work.
    """
    output_format(output_type)
    layout = replace(source, subsampling="420", depth=8, alpha=False)
    if source.matrix == "rgb":
        return replace(layout, matrix="bt709", full_range=False)
    return layout

"""The architecture on one page: the interfaces of the stages, and the values that pass between them.

    source ── Decoder.probe ──▶ Index ── plan ──▶ Chunk, Chunk, …
    Chunk ── Decoder.decode ──▶ Frames ── Segmenter.cut_out ──▶ Cutout ── Encoder.encode ──▶ Piece
    PieceRef, PieceRef, … ── Encoder.join ──▶ MediaFile

A chunk is computed from its description alone (source, range, options): any replica may compute it, repeatedly, with
the same result. Arrays are passed by value and arrive read-only. This module imports neither Ray, HTTP, torch nor PyAV,
so that every process can import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from serve_app.arrays import check_array
from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import Frames, Geometry, HdrMetadata, PixelLayout, Ticks

SEEKS = 6  # maximum number of keyframes listed in a chunk


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a matte: checkpoint, device, the engine that computed it with its precision, and the
    (height, width) of the network's input.
    """

    checkpoint: str
    device: str
    engine: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cutout:
    """A chunk after segmentation: colour planes in the output's layout (no alpha plane) and the matte.

    colour: composited over black if the output has no alpha; with alpha, straight (not premultiplied).
    matte: [N, H, W] uint8, 255 = subject.
    seconds: processing time, without waiting.
    """

    colour: Frames
    matte: npt.NDArray[np.uint8]
    provenance: Provenance
    seconds: float

    def __post_init__(self) -> None:
        layout = self.colour.layout
        if layout.alpha:
            raise ValueError("the colour of a cutout has no alpha plane: the matte is its alpha")
        check_array("matte", self.matte, (len(self.colour), layout.height, layout.width), np.uint8)


@dataclass(frozen=True, slots=True)
class CutOptions:
    """The options of `Segmenter.cut_out`.

    operating_size: side of the network's square input, in pixels.
    over_black: composite the colour over black, for an output without alpha.
    layout: layout of the cutout's colour planes; colour and matte are scaled if its size differs from the source's.
    snap_matte: round nearly opaque values to opaque, and nearly transparent ones to transparent.
    peak_nits: peak luminance of an HDR (PQ) source, in cd/m².
    """

    operating_size: int
    refine_foreground: bool
    over_black: bool
    layout: PixelLayout
    snap_matte: bool = True
    peak_nits: float = 1000.0


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The source's first audio track.

    start_s, end_s: seconds on the source's clock.
    packets, damaged: number of packets, and how many of them cannot be decoded.
    resets: seconds to add to the timestamps after their first, second, ... jump back, as for the video.
    """

    codec: str
    sample_rate: int
    layout: str
    start_s: float
    end_s: float
    packets: int
    damaged: int = 0
    resets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """The result of a demux-only pass over a source: everything that planning needs. Times are ticks of `time_base`.

    layout, sample_aspect: of the upright picture.
    pts, keyframes: ascending presentation times of all frames, and of those at which decoding can start.
    frame_duration, last_duration: the usual distance between frames, and the duration of the last one.
    origin: the tick that becomes time 0 of the output.
    sequential: packets have no usable timestamps, so `pts` comes from decoding, and reaching a chunk means decoding
        from the start.
    damage: sentences about what is missing from the file.
    interlaced: whether the first frame is marked as interlaced.
    """

    layout: PixelLayout
    geometry: Geometry
    sample_aspect: Fraction
    time_base: Fraction
    pts: Ticks
    keyframes: Ticks
    frame_duration: int
    last_duration: int
    average_rate: Fraction
    origin: int
    sequential: bool
    audio: AudioInfo | None
    codec: str
    damage: tuple[str, ...] = ()
    interlaced: bool = False
    hdr: HdrMetadata | None = None

    @property
    def duration_s(self) -> float:
        return float((int(self.pts[-1]) - int(self.pts[0]) + self.last_duration) * self.time_base)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A half-open PTS range of a source. `start` is None in the first chunk, `stop` in the last.

    seek: keyframes to try in order, nearest first; if each lands after `start`, decoding starts at the beginning.
    frames: the number of frames that the plan expects; the decoded number is authoritative.
    """

    number: int
    start: int | None
    stop: int | None
    seek: tuple[int, ...]
    frames: int


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """Encoder settings of a job, shared by all its pieces."""

    output_type: OutputType
    quality: Quality
    write_mode: WriteMode
    time_base: Fraction
    origin: int
    rate: Fraction
    sample_aspect: Fraction
    mask: bool = False  # encode the matte as a grey video (white = subject) instead of the cutout
    hdr: HdrMetadata | None = None  # for HDR output only


class StageSeconds(NamedTuple):
    """Processing time of a chunk per stage, without waiting."""

    segmentation: float
    encoding: float


@dataclass(frozen=True, slots=True)
class PieceRef:
    """An encoded chunk in the artifact store: a closed GOP whose packets keep the source's timestamps.

    mask_name: the piece of the mask video, made from the same matte, or None if no mask was requested.
    damage: as in `Frames`.
    """

    name: str
    mask_name: str | None
    size: int
    frames: int
    first_pts: int
    last_pts: int
    sha256: str
    mask_sha256: str | None
    provenance: Provenance
    seconds: StageSeconds
    damage: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EmptyPiece:
    """The piece of a chunk without decodable frames. It has no file."""

    provenance: Provenance
    seconds: StageSeconds
    damage: tuple[int, ...] = ()

    @property
    def frames(self) -> int:
        return 0


Piece = PieceRef | EmptyPiece


@dataclass(frozen=True, slots=True)
class JoinPiece:
    """One piece of a joined file, with the properties that the join verifies."""

    name: str
    frames: int
    first_pts: int
    last_pts: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected properties of a joined file, in ticks of the source. `end`: end of the last frame."""

    frames: int
    first_pts: int
    last_pts: int
    end: int
    frame_duration: int


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """The input of `Encoder.join`: pieces in order, and the names of the source (for its audio) and the output."""

    pieces: tuple[JoinPiece, ...]
    source: str
    audio: AudioInfo | None
    settings: EncodeSettings
    expected: Expected
    output: str


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A finished artifact. Its properties are read back from the written file."""

    name: str
    content_type: str
    file_name: str
    file_size: int
    width: int
    height: int
    fps: float
    duration: float
    num_frames: int


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The time limit of a stage call, measured in the replica from the start of the work."""

    work_s: float


class Decoder(Protocol):
    """Indexes and decodes sources. Raises `UnsupportedVideo` or `WorkTimeout`."""

    async def probe(self, source: str, limits: CallLimits, decode: bool = False) -> Index: ...

    async def decode(self, source: str, index: IndexBrief, chunk: Chunk, limits: CallLimits) -> Frames: ...


class Segmenter(Protocol):
    """Cuts out the subject. Raises `CheckpointError` for unusable weights, `InferenceFailed` or `WorkTimeout`."""

    async def cut_out(self, frames: Frames, options: CutOptions, limits: CallLimits) -> Cutout: ...


class Encoder(Protocol):
    """Encodes pieces and joins them. Raises `EncodingFailed`, `StorageFull` or `WorkTimeout`."""

    async def encode(
        self, cutout: Cutout, settings: EncodeSettings, name: str, mask_name: str | None, limits: CallLimits
    ) -> Piece: ...

    async def join(self, request: JoinRequest, limits: CallLimits) -> MediaFile: ...


@dataclass(frozen=True, slots=True)
class IndexBrief:
    """The part of an index that decoding needs. Its size is constant, so every call can carry it."""

    layout: PixelLayout
    geometry: Geometry
    time_base: Fraction
    sequential: bool

    @classmethod
    def of(cls, index: Index) -> IndexBrief:
        return cls(index.layout, index.geometry, index.time_base, index.sequential)

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
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from serve_app.arrays import check_array, check_frames
from serve_app.fal import OutputType, Quality, WriteMode

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Ticks = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How samples become colours. Odd sizes are kept; chroma sizes are rounded up.

    `matrix` "rgb" means planes R, G, B (always full range, 4:4:4); otherwise Y, Cb, Cr. With `alpha` a full
    size plane of the same depth follows, 0 = transparent, full range. 10-bit samples are uint16, 0..1023.
    `primaries` and `transfer` are code points of ISO/IEC 23091-2 (2 = unspecified), passed through to the
    output's tags.
    """

    width: int
    height: int
    subsampling: Literal["420", "422", "444"] = "420"
    depth: Literal[8, 10] = 8
    matrix: Literal["bt601", "bt709", "bt2020", "rgb"] = "bt709"
    full_range: bool = False
    chroma_site: Literal["left", "center", "topleft"] = "left"
    alpha: bool = False
    primaries: int = 2
    transfer: int = 2

    @property
    def chroma_size(self) -> tuple[int, int]:
        """(height, width) of one chroma plane."""
        down = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}[self.subsampling]
        return -(-self.height // down[0]), -(-self.width // down[1])

    @property
    def plane_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane in order, the alpha plane included."""
        luma = (self.height, self.width)
        return (luma, self.chroma_size, self.chroma_size) + ((luma,) if self.alpha else ())

    @property
    def sample_type(self) -> type[np.unsignedinteger[Any]]:
        return np.uint8 if self.depth == 8 else np.uint16

    @property
    def frame_bytes(self) -> int:
        return sum(h * w for h, w in self.plane_sizes) * np.dtype(self.sample_type).itemsize


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames of one chunk: one array [N, H, W] per plane, ascending PTS (ticks of `time_base`) per frame.

    Checked when made (ValueError, TypeError), not again when it arrives pickled in another process.
    """

    planes: tuple[Plane, ...]
    layout: PixelLayout
    pts: Ticks
    time_base: Fraction

    def __post_init__(self) -> None:
        check_frames(self.planes, self.layout.plane_sizes, self.layout.sample_type, self.pts)

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a matte: checkpoint, device, and the (height, width) of the network's input."""

    checkpoint: str
    device: str
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
    """What the segmenter is asked to do with a chunk."""

    operating_size: int
    refine_foreground: bool
    over_black: bool
    layout: PixelLayout  # of the cutout's colour planes


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The source's first audio track."""

    codec: str
    sample_rate: int
    layout: str
    start_s: float


@dataclass(frozen=True, slots=True)
class Index:
    """What one demux-only pass finds: everything that planning needs, no pixels.

    `pts`: presentation times of all frames, ascending. `keyframes`: ascending PTS at which decoding can
    start. `origin`: the tick that becomes time 0 of the output. `sequential`: the container gives no usable
    times per packet, so `pts` came from decoding and chunks are only reached by decoding from the start.
    """

    layout: PixelLayout
    rotation: Literal[0, 90, 180, 270]
    sample_aspect: Fraction
    time_base: Fraction
    pts: Ticks
    keyframes: Ticks
    frame_duration: int
    average_rate: Fraction
    origin: int
    sequential: bool
    audio: AudioInfo | None
    codec: str

    @property
    def duration_s(self) -> float:
        return float((int(self.pts[-1]) - int(self.pts[0]) + self.frame_duration) * self.time_base)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A half-open PTS range of a source; None is the open start of the first and the open end of the last chunk.

    seek: keyframes to try in order, nearest first; if all deliver too late a frame, decoding starts at the beginning.
    frames: the number that the plan expects; the decoded number is authoritative.
    """

    number: int
    start: int | None
    stop: int | None
    seek: tuple[int, ...]
    frames: int


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How a job's output is encoded; the same for all its pieces."""

    output_type: OutputType
    quality: Quality
    write_mode: WriteMode
    time_base: Fraction
    origin: int
    rate: Fraction
    sample_aspect: Fraction
    mask: bool = False  # the matte as a grey video (white = subject) in the place of the cutout


class StageSeconds(NamedTuple):
    """Processing time of a chunk per stage, without waiting."""

    segmentation: float
    encoding: float


@dataclass(frozen=True, slots=True)
class PieceRef:
    """An encoded chunk in the artifact store: a closed GOP whose packets keep the source's times.

    `mask_name`: the piece of the mask, made of the same matte, when one was asked for.
    """

    name: str
    mask_name: str | None
    size: int
    frames: int
    first_pts: int
    last_pts: int
    sha256: str
    provenance: Provenance
    seconds: StageSeconds


@dataclass(frozen=True, slots=True)
class EmptyPiece:
    """The piece of a chunk without decodable frames: there is no file."""

    provenance: Provenance
    seconds: StageSeconds


Piece = PieceRef | EmptyPiece


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Everything that `join` needs: the pieces in order, the source for its audio, and where to write."""

    pieces: tuple[str, ...]
    source: str
    audio: AudioInfo | None
    settings: EncodeSettings
    frame_duration: int
    output: str


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A finished artifact, with properties read back from the written file."""

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
    """The work time allowed for a stage call, measured in the replica from its start."""

    work_s: float


class Decoder(Protocol):
    """Indexes and decodes sources. Raises `UnsupportedVideo` for other files, or `WorkTimeout`."""

    async def probe(self, source: str, limits: CallLimits) -> Index: ...

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
    """The part of an index that decoding needs: of constant size, so that every call can carry it."""

    layout: PixelLayout
    rotation: Literal[0, 90, 180, 270]
    time_base: Fraction
    sequential: bool

    @classmethod
    def of(cls, index: Index) -> IndexBrief:
        return cls(index.layout, index.rotation, index.time_base, index.sequential)

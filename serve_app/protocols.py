"""The architecture on one page: what passes between the stages, and what a stage promises.

    source ── Decoder.probe ──▶ Index ── plan ──▶ Chunk, Chunk, …
    Chunk ── Decoder.decode ──▶ Frames ── Segmenter.cut_out ──▶ Cutout ── Encoder.encode ──▶ PieceRef
    PieceRef, PieceRef, … ── Encoder.join ──▶ MediaFile

A chunk is computed from its name alone (source, range, options): any replica may compute it, again, or
twice, with the same result. Arrays travel by value and arrive read-only. Nothing here knows Ray, HTTP,
torch or PyAV, so every process may import it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

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
    def frame_bytes(self) -> int:
        return sum(h * w for h, w in self.plane_sizes) * (1 if self.depth == 8 else 2)


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames of one chunk: one array [N, H, W] per plane, PTS (ticks of `time_base`) per frame."""

    planes: tuple[Plane, ...]
    layout: PixelLayout
    pts: Ticks
    time_base: Fraction

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which network made a matte: checkpoint, device, the engine that computed and its precision, and the
    (height, width) at which it saw a frame.
    """

    checkpoint: str
    device: str
    engine: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cutout:
    """A chunk after segmentation: colour planes in the output's layout (no alpha plane) and the matte.

    `matte` is [N, H, W] uint8, 255 = subject. `colour` is composed over black already where the output has no
    alpha, and straight (not premultiplied) where it has. `seconds`: processing time, waiting excluded.
    """

    colour: Frames
    matte: npt.NDArray[np.uint8]
    provenance: Provenance
    seconds: float


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
    """A half-open PTS range of a source; None is the open end of the first and of the last chunk.

    `seek`: keyframes to try in turn, nearest first; when all deliver too late a frame, decoding starts at the
    beginning. `frames`: how many the plan expects (decoded frames are the truth).
    """

    number: int
    start: int | None
    stop: int | None
    seek: tuple[int, ...]
    frames: int


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How a job's output is written; the same for each of its pieces."""

    output_type: OutputType
    quality: Quality
    write_mode: WriteMode
    time_base: Fraction
    origin: int
    rate: Fraction
    sample_aspect: Fraction
    mask: bool = False  # the matte as a grey video (white = subject) in the place of the cutout


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
    seconds: tuple[float, float]  # of segmentation, of encoding


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
    """A finished artifact and the figures read back from the file as written."""

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
    """Work time a stage call may take, measured inside the replica from its start."""

    work_s: float


class Decoder(Protocol):
    """Errors: `UnsupportedVideo` for what is not a video, `WorkTimeout`."""

    async def probe(self, source: str, limits: CallLimits) -> Index: ...

    async def decode(self, source: str, index: IndexBrief, chunk: Chunk, limits: CallLimits) -> Frames: ...


class Segmenter(Protocol):
    """Errors: `CheckpointError` when the weights cannot be had, `InferenceFailed`, `WorkTimeout`."""

    async def cut_out(self, frames: Frames, options: CutOptions, limits: CallLimits) -> Cutout: ...


class Encoder(Protocol):
    """Errors: `EncodingFailed`, `StorageFull`, `WorkTimeout`."""

    async def encode(
        self, cutout: Cutout, settings: EncodeSettings, name: str, mask_name: str | None, limits: CallLimits
    ) -> PieceRef: ...

    async def join(self, request: JoinRequest, limits: CallLimits) -> MediaFile: ...


@dataclass(frozen=True, slots=True)
class IndexBrief:
    """The part of an index that decoding a chunk needs: constant size, so it may travel with every call."""

    layout: PixelLayout
    rotation: Literal[0, 90, 180, 270]
    time_base: Fraction
    sequential: bool

    @classmethod
    def of(cls, index: Index) -> IndexBrief:
        return cls(index.layout, index.rotation, index.time_base, index.sequential)


def even(layout: PixelLayout) -> PixelLayout:
    """The layout with both sides rounded up to even numbers, as H.264 4:2:0 needs them."""
    return replace(layout, width=layout.width + layout.width % 2, height=layout.height + layout.height % 2)

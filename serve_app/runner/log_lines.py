"""Descriptions of a job's source, processing and output for its log."""

from __future__ import annotations

from serve_app.fal import OutputType
from serve_app.jobs.request import JobRequest
from serve_app.picture import PQ, UNKNOWN_PEAK, PixelLayout, even
from serve_app.protocols import Index, MediaFile, Piece
from serve_app.video.formats import output_format


def describe(index: Index) -> str:
    layout, audio = index.layout, index.audio
    sound = f"{audio.codec} {audio.sample_rate} Hz {audio.layout}" if audio else "no audio"
    return (
        f"{layout.width}x{layout.height}, {float(index.average_rate):.3f} frames/s, {count(len(index.pts), 'frame')}, "
        f"{index.duration_s:.2f} s, {index.codec}, {sound}"
    )


def treatment(index: Index, output: PixelLayout, output_type: OutputType) -> list[str]:
    """How the frames are changed besides the cutout; `output` is the layout of the cutouts."""
    source, geometry, lines = index.layout, index.geometry, []
    left, right, top, bottom = geometry.crop
    if any(geometry.crop):
        lines.append(
            f"cropped as the container specifies: left {left}, right {right}, top {top}, bottom {bottom}"
        )
    if geometry.mirrored or geometry.rotation:
        mirrored = "mirrored, " if geometry.mirrored else ""
        lines.append(f"made upright: {mirrored}rotated clockwise by {geometry.rotation} degrees")
    if index.interlaced:
        lines.append("interlaced: each frame deinterlaced (bwdif)")
    if source.hdr:
        name = "PQ" if source.transfer == PQ else "HLG"
        peak = index.hdr.peak_nits if index.hdr and source.transfer == PQ else UNKNOWN_PEAK
        mapped = f"mapped to BT.709 (BT.2390, peak {peak:g} cd/m²)"
        lines.append(f"HDR: {name} kept in 10 bits" if output.hdr else f"HDR: {name} {mapped}")
    if (output.width, output.height) != (source.width, source.height):
        shape = f"{index.sample_aspect.numerator}:{index.sample_aspect.denominator}"
        lines.append(f"pixels of aspect {shape} made square: {output.width}x{output.height}")
    padded = even(output)
    if output_format(output_type).even and padded != output:
        lines.append(
            f"padded to {padded.width}x{padded.height} by repeating the last column or row: H.264 requires even sizes"
        )
    return lines


def network(piece: Piece, request: JobRequest) -> str:
    """The checkpoint, device, engine and input size of the network that made the matte."""
    provenance = piece.provenance
    height, width = provenance.size
    line = (
        f"network: {provenance.checkpoint} on {provenance.device} ({provenance.engine}) at {width}x{height}"
    )
    if max(provenance.size) < request.operating_size:
        line += f" (its largest size; {request.operating_size}x{request.operating_size} was requested)"
    return line


def checked(file: MediaFile) -> str:
    return (
        f"checked {file.file_name}: {file.width}x{file.height}, {count(file.num_frames, 'frame')}, "
        f"{file.duration:.2f} s, {megabytes(file.file_size)}"
    )


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 10_000 else f"{size} bytes"

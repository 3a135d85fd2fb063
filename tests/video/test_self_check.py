"""Faults planted in pieces, in the written file and in what is expected of it: each check finds its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import EncodingFailed, NothingProduced, UnsupportedVideo
from serve_app.fal import OutputType
from serve_app.protocols import Chunk, Expected, Index, JoinPiece, JoinRequest, PieceRef, StageSeconds
from serve_app.runner.completeness import PlanMismatch, check_chunk, damage_lines, expected_of
from serve_app.runner.plan import plan_chunks
from serve_app.video.formats import output_format
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe
from serve_app.video.self_check import check_gif, check_video
from tests.video.altered import packets_in
from tests.video.clips import OPEN, Clip
from tests.video.conftest import Clips
from tests.video.pipeline import PROVENANCE, join_request, limits, never, pieces_of, settings_of

TYPES = list(OutputType)
FILMS = [OutputType.MP4, OutputType.WEBM, OutputType.MOV]
SOURCE = Clip("checked.mkv", options=OPEN, audio="flac", audio_seconds=2.0)


@dataclass
class Job:
    """A job up to its join: pieces of 10 frames in `folder`."""

    source: Path
    index: Index
    folder: Path
    request: JoinRequest

    @classmethod
    def of(cls, source: Path, folder: Path, output_type: OutputType) -> Job:
        index = probe(source)
        settings = settings_of(index, output_type)
        pieces = pieces_of(source, index, settings, plan_chunks(index, limits(10)), folder)
        made = [JoinPiece(p.name, p.frames, p.first_pts, p.last_pts, p.sha256) for p in pieces.values()]
        return cls(source, index, folder, join_request(source, index, settings, made, folder / "out"))

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def join(self, **changes: Any) -> None:
        request = replace(self.request, **changes)
        paths = [self.folder / piece.name for piece in request.pieces]
        join_pieces(lambda: paths, request, self.source, self.out, never)

    def check(self, **changes: Any) -> None:
        form = output_format(self.request.settings.output_type)
        check_video(self.out, replace(self.request, **changes), form)

    def expected(self, **changes: int) -> Expected:
        return replace(self.request.expected, **changes)

    def piece(self, number: int, **changes: Any) -> tuple[JoinPiece, ...]:
        pieces = list(self.request.pieces)
        pieces[number] = replace(pieces[number], **changes)
        return tuple(pieces)


@pytest.fixture
def job(clip: Clips, tmp_path: Path) -> Callable[[OutputType], Job]:
    return lambda output_type: Job.of(clip(SOURCE), tmp_path, output_type)


@pytest.mark.parametrize("output_type", TYPES)
def test_a_piece_that_was_changed(job: Callable[[OutputType], Job], output_type: OutputType) -> None:
    """Cut to 60 %, or with one bit turned: WebM gave 36 of 48 frames and success, a GIF an error of its archive."""
    it = job(output_type)
    piece = it.folder / it.request.pieces[2].name
    whole = piece.read_bytes()
    turned = bytearray(whole)
    turned[len(turned) // 2] ^= 1
    for data in (whole[: len(whole) * 6 // 10], bytes(turned), b""):
        piece.write_bytes(data)
        with pytest.raises(EncodingFailed, match=r"piece 000002\.piece was changed"):
            it.join()
        assert not it.out.exists()
    piece.write_bytes(whole)
    it.join()
    assert it.out.exists()


@pytest.mark.parametrize("output_type", TYPES)
def test_a_piece_with_too_few_frames(
    job: Callable[[OutputType], Job], tmp_path: Path, output_type: OutputType
) -> None:
    """Its digest is right, as if the encoder itself had lost frames."""
    it = job(output_type)
    (tmp_path / "short").mkdir()
    chunk = replace(plan_chunks(it.index, limits(10))[1], stop=int(it.index.pts[18]), frames=8)
    short = pieces_of(it.source, it.index, it.request.settings, [chunk], tmp_path / "short")[1]
    data = (tmp_path / "short" / short.name).read_bytes()
    (it.folder / short.name).write_bytes(data)
    with pytest.raises(EncodingFailed, match=r"frames in the piece 000001\.piece: 8, expected 10"):
        it.join(pieces=it.piece(1, sha256=hashlib.sha256(data).hexdigest()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 61}, "frames in the pieces: 60, expected 61"),
        ({"first_pts": -1}, "time of the first frame"),
        ({"last_pts": 9}, "time of the last frame"),
    ],
)
def test_pieces_that_are_not_the_plan(
    job: Callable[[OutputType], Job], change: dict[str, int], message: str
) -> None:
    it = job(OutputType.MP4)
    counts = sum(piece.frames for piece in it.request.pieces)
    message = message.replace("60", str(counts)).replace("61", str(counts + 1))
    change = {key: counts + 1 if key == "frames" else value for key, value in change.items()}
    with pytest.raises(EncodingFailed, match=message):
        it.join(expected=it.expected(**change))
    with pytest.raises(EncodingFailed, match="frames in the pieces"):
        it.join(pieces=it.request.pieces[:-1])


@pytest.mark.parametrize("output_type", FILMS)
def test_a_file_with_other_figures(job: Callable[[OutputType], Job], output_type: OutputType) -> None:
    it = job(output_type)
    it.join()
    it.check()
    frames, end, audio = it.request.expected.frames, it.request.expected.end, it.request.audio
    assert audio is not None
    third = it.request.pieces[2]
    for change, message in (
        ({"expected": it.expected(frames=frames + 1)}, f"frames in the file: {frames}"),
        ({"expected": it.expected(end=end + 4)}, "end in seconds"),
        ({"pieces": it.piece(2, first_pts=third.first_pts + 3)}, "time of the first frame of piece 2"),
        ({"pieces": it.piece(2, last_pts=third.last_pts - 3)}, "time of the last frame of piece 2"),
        ({"audio": None}, "audio tracks: 1"),
        ({"audio": replace(audio, start_s=audio.start_s + 0.1)}, "start of the audio"),
        ({"settings": replace(it.request.settings, mask=True)}, "audio tracks: 1"),
    ):
        with pytest.raises(EncodingFailed, match=message):
            it.check(**change)


@pytest.mark.parametrize("output_type", FILMS)
def test_a_file_without_its_sound(
    job: Callable[[OutputType], Job], clip: Clips, output_type: OutputType
) -> None:
    it = job(output_type)
    audio = it.request.audio
    it.join(audio=None)
    with pytest.raises(EncodingFailed, match="packets of audio"):
        it.check(audio=audio)
    it.source = clip(replace(SOURCE, name="short-sound.mkv", audio_seconds=1.0))
    with pytest.raises(EncodingFailed, match="end of the audio"):
        it.join(audio=audio)
    assert not it.out.exists()


@pytest.mark.parametrize("output_type", FILMS)
@pytest.mark.parametrize("frame", [0, 20, 49])
def test_a_frame_that_cannot_be_decoded(
    job: Callable[[OutputType], Job], output_type: OutputType, frame: int
) -> None:
    """The first, the first of the middle piece, and the last."""
    it = job(output_type)
    it.join(audio=None)
    places = packets_in(it.out)
    assert len(places) == 50
    data = bytearray(it.out.read_bytes())
    at, size = places[frame]
    data[at : at + size] = b"\xff" * size
    it.out.write_bytes(data)
    with pytest.raises(EncodingFailed, match=r"cannot be decoded|damaged|cannot be read"):
        it.check(audio=None)


@pytest.mark.parametrize("output_type", [OutputType.WEBM, OutputType.MOV])
def test_a_file_without_alpha(
    job: Callable[[OutputType], Job], tmp_path: Path, output_type: OutputType
) -> None:
    it = job(output_type)
    settings = replace(it.request.settings, mask=True)
    pieces = pieces_of(it.source, it.index, settings, plan_chunks(it.index, limits(10)), tmp_path)
    made = tuple(JoinPiece(p.name, p.frames, p.first_pts, p.last_pts, p.sha256) for p in pieces.values())
    it.join(settings=settings, pieces=made, audio=None)
    with pytest.raises(EncodingFailed, match="has no alpha"):
        it.check(audio=None)


def test_a_gif_with_other_figures(job: Callable[[OutputType], Job]) -> None:
    it = job(OutputType.GIF)
    it.join()
    form, whole = output_format(OutputType.GIF), it.out.read_bytes()
    check_gif(it.out, it.request, form, 50)
    with pytest.raises(EncodingFailed, match="images in the GIF: 50, expected 51"):
        check_gif(it.out, it.request, form, 51)
    longer = replace(it.request, expected=it.expected(end=it.request.expected.end + 100))
    with pytest.raises(EncodingFailed, match="duration in seconds"):
        check_gif(it.out, longer, form, 50)
    it.out.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncodingFailed, match="images in the GIF"):
        check_gif(it.out, it.request, form, 50)
    it.out.write_bytes(b"GIF89a")
    with pytest.raises(EncodingFailed, match="cannot be read"):
        check_gif(it.out, it.request, form, 50)


def ref(chunk: Chunk, frames: int, damage: tuple[int, ...] = ()) -> PieceRef:
    start = chunk.start or 0
    return PieceRef("", None, 1, frames, start, start, "", None, PROVENANCE, StageSeconds(0.0, 0.0), damage)


def test_chunks_that_lack_frames(clip: Clips) -> None:
    """In a sound source they are an error, once the decoder has been asked; in a damaged one they are said."""
    index = probe(clip(SOURCE))
    chunks = plan_chunks(index, limits(10))
    pieces = {chunk.number: ref(chunk, chunk.frames) for chunk in chunks}
    for number in (9, 11):
        with pytest.raises(PlanMismatch):
            check_chunk(index, chunks[2], ref(chunks[2], number), decoded=False)
        with pytest.raises(
            EncodingFailed, match=rf"from 0\.80 s on has 10 frames and no damage, but {number} were"
        ):
            check_chunk(index, chunks[2], ref(chunks[2], number), decoded=True)
    assert damage_lines(index, chunks, pieces) == []
    assert expected_of(index, chunks, pieces).frames == 50
    pieces[2] = ref(chunks[2], 8, (int(index.pts[21]), int(index.pts[22]), int(index.pts[25])))
    check_chunk(index, chunks[2], pieces[2], decoded=False)
    (line,) = damage_lines(index, chunks, pieces)
    assert "frames 21-22 (0.84-0.88 s), frame 25 (1.00 s)" in line and "2 frames could not be decoded" in line
    expected = expected_of(index, chunks, pieces)
    assert (expected.frames, expected.end) == (48, int(index.pts[-1]) + index.last_duration)


def test_a_source_that_is_damaged_everywhere(clip: Clips) -> None:
    index = probe(clip(SOURCE))
    chunks = plan_chunks(index, limits(10))
    none = {chunk.number: ref(chunk, 0, (int(index.pts[1]),)) for chunk in chunks}
    with pytest.raises(NothingProduced):
        expected_of(index, chunks, none)
    bad = {
        chunk.number: ref(chunk, 1, tuple(int(tick) for tick in index.pts[10 * n : 10 * n + 10]))
        for n, chunk in enumerate(chunks)
    }
    with pytest.raises(UnsupportedVideo, match="All parts of the video are damaged"):
        expected_of(index, chunks, bad)

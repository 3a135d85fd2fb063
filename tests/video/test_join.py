"""The finished file: every frame at its time, whatever the cut into pieces was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import count, pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import EncodingFailed, JobCancelled
from serve_app.fal import OutputType
from serve_app.picture import PixelLayout
from serve_app.protocols import IndexBrief, JoinPiece, MediaFile
from serve_app.runner.plan import plan_chunks
from serve_app.video.decode import ChunkDecoder
from serve_app.video.formats import cutout_layout
from serve_app.video.join import DecodingTimes, join_pieces
from serve_app.video.probe import probe
from tests.video.clips import CLIPS, X264, Clip, number_of
from tests.video.conftest import Clips
from tests.video.pipeline import (
    convert,
    cutout_of,
    join_request,
    limits,
    never,
    settings_of,
    shown,
    times,
    write_piece,
)
from tests.video.test_encode import SETTINGS, moving, plane

SOURCES = [
    "closed.mp4", "open.ts", "vp9film.webm", "x264.avi", "film.mp4", "vfr.mp4", "vfr.ts", "late.mp4", "odd.mp4",
    "turned90.mp4", "full.mp4", "raw.h264",
]  # fmt: skip
EXACT = {  # WebM counts milliseconds
    OutputType.MP4: Fraction(0),
    OutputType.WEBM: Fraction(1, 1000),
    OutputType.MOV: Fraction(0),
}


@pytest.mark.parametrize("output_type", list(EXACT))
@pytest.mark.parametrize("name", SOURCES)
def test_every_frame_at_its_time(clip: Clips, tmp_path: Path, name: str, output_type: OutputType) -> None:
    index, out, media = convert(clip(name), tmp_path, output_type, frames=13)
    seen, wanted = shown(out), times(index)
    assert len(seen) == len(wanted) == media.num_frames == CLIPS[name].frames
    assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= EXACT[output_type]
    assert media.file_size == out.stat().st_size
    odd = output_type is OutputType.MP4
    assert media.width == index.layout.width + (index.layout.width % 2) * odd
    assert media.height == index.layout.height + (index.layout.height % 2) * odd
    assert media.fps == pytest.approx(float(index.average_rate), rel=2e-2)
    if not name.startswith("vfr"):
        assert media.duration == pytest.approx(index.duration_s, abs=0.0021)
        assert media.fps == pytest.approx(float(index.average_rate), abs=1e-6)


@pytest.mark.parametrize("output_type", list(EXACT))
def test_pictures_and_order(clip: Clips, tmp_path: Path, output_type: OutputType) -> None:
    _, out, _ = convert(clip("open.mp4"), tmp_path, output_type, frames=7)
    with av.open(str(out)) as container:
        luma = (frame.reformat(format="yuv420p") for frame in container.decode(video=0))
        numbers = [number_of(plane(frame, 0)) for frame in luma]
        assert numbers == list(range(50))
    with av.open(str(out)) as container:
        dts = [packet.dts for packet in container.demux(video=0) if packet.dts is not None]
        assert dts == sorted(set(dts))


def test_seeking_works_in_the_joined_file(clip: Clips, tmp_path: Path) -> None:
    _, out, _ = convert(clip("closed.mp4"), tmp_path, OutputType.MP4, frames=13)
    index = probe(out)
    assert len(index.keyframes) >= 4
    decoder = ChunkDecoder(out, IndexBrief.of(index))
    chunk = plan_chunks(index, limits(10))[3]
    assert [number_of(luma) for luma in decoder.decode(chunk, never).planes[0]] == list(range(30, 40))
    decoder.close()


def test_tags_last(clip: Clips, tmp_path: Path) -> None:
    for output_type in EXACT:
        _, out, media = convert(clip("full.mp4"), tmp_path, output_type)
        layout = probe(out).layout
        assert (layout.matrix, layout.full_range) == ("bt709", output_type is not OutputType.MOV)
        assert (layout.primaries, layout.transfer) == (1, 1)
        assert layout.alpha is (output_type is not OutputType.MP4)
        types = {"mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime"}
        assert media.content_type == types[out.suffix[1:]]
        assert media.file_name == out.name


def test_the_index_of_an_mp4_comes_first(clip: Clips, tmp_path: Path) -> None:
    _, out, _ = convert(clip("hd.mp4"), tmp_path, OutputType.MP4)
    data = out.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("output_type", list(EXACT))
def test_a_single_frame(clip: Clips, tmp_path: Path, output_type: OutputType) -> None:
    source = clip(Clip("one.mp4", options=X264, frames=1))
    index, out, media = convert(source, tmp_path, output_type)
    assert (media.num_frames, media.duration, media.fps) == (1, 0.04, 25.0)
    assert shown(out) == times(index) == [0]


@pytest.mark.parametrize("output_type", list(EXACT))
def test_same_bytes(clip: Clips, tmp_path: Path, output_type: OutputType) -> None:
    """Several times, as memory that an encoder forgot to clear differs only now and then."""
    written = {convert(clip("hd.mp4"), tmp_path, output_type)[1].read_bytes() for _ in range(8)}
    assert len(written) == 1


def test_bunny(bunny: Path, tmp_path: Path) -> None:
    """A real film with AAC 5.1."""
    index, out, media = convert(bunny, tmp_path, OutputType.MP4, frames=48)
    assert (media.num_frames, media.fps, media.width, media.height) == (132, 25.0, 1280, 720)
    assert shown(out) == times(index)
    with av.open(str(out)) as container:
        audio = container.streams.audio[0].codec_context
        assert (audio.name, audio.layout.name) == ("aac", "5.1")


def test_one_piece_at_a_time(clip: Clips, tmp_path: Path) -> None:
    """Pieces may be fetched while joining, each into the place of the one before."""
    source = clip("closed.mp4")
    index = probe(source)
    settings = settings_of(index, OutputType.MP4)
    decoder, made = ChunkDecoder(source, IndexBrief.of(index)), []
    for chunk in plan_chunks(index, limits(5)):
        cutout = cutout_of(decoder.decode(chunk, never), OutputType.MP4)
        made.append(write_piece(cutout, settings, tmp_path / f"{chunk.number}"))
    decoder.close()
    opened: list[int] = []

    def fetched() -> Iterator[Path]:
        for piece in made:
            opened.append(len(list(Path("/proc/self/fd").iterdir())))
            place = (tmp_path / piece.name).rename(tmp_path / "the one piece")
            yield place
            place.unlink()

    out = tmp_path / "out.mp4"
    media = join_pieces(fetched, join_request(source, index, settings, made, out), source, out, never)
    assert media.num_frames == 50
    assert len(set(opened[1:])) == 1  # as many files are open at the last piece as at the second


def test_pieces_that_do_not_fit(clip: Clips, tmp_path: Path) -> None:
    source = clip("closed.mp4")
    index = probe(source)
    first = write_piece(moving(PixelLayout(64, 48)), SETTINGS, tmp_path / "a")
    second = write_piece(moving(PixelLayout(64, 50)), SETTINGS, tmp_path / "b")
    later = moving(PixelLayout(64, 48))
    later = replace(later, colour=replace(later.colour, pts=later.colour.pts + 12 * 512))
    third = write_piece(later, SETTINGS, tmp_path / "c")
    out = tmp_path / "out.mp4"

    def join(*pieces: JoinPiece, cancelled: Callable[[], bool] = never) -> MediaFile:
        request = join_request(source, replace(index, audio=None), SETTINGS, list(pieces), out)
        return join_pieces(lambda: [tmp_path / p.name for p in pieces], request, source, out, cancelled)

    for pieces, message in (
        ([first, second], "different encoder settings"),
        ([third, first], "overlap"),
        ([], "nothing to join"),
    ):
        with pytest.raises(EncodingFailed, match=message):
            join(*pieces)
        assert not out.exists()
    calls = count()
    with pytest.raises(JobCancelled):
        join(first, third, cancelled=lambda: next(calls) >= 5)
    assert not out.exists()
    assert join(first, third).num_frames == 24


@pytest.mark.parametrize("output_type", list(EXACT))
def test_pieces_far_apart(clip: Clips, tmp_path: Path, output_type: OutputType) -> None:
    """Ten hours into a film, times are as exact as at its beginning."""
    source = clip("closed.mp4")
    settings = replace(SETTINGS, output_type=output_type)
    pieces, wanted = [], []
    for name, start in zip("ab", (0, 10 * 3600 * 12800 + 7), strict=True):
        cutout = moving(cutout_layout(PixelLayout(64, 48), output_type))
        cutout = replace(cutout, colour=replace(cutout.colour, pts=cutout.colour.pts + start))
        pieces.append(write_piece(cutout, settings, tmp_path / name))
        wanted += [Fraction(int(pts) - settings.origin, 12800) for pts in cutout.colour.pts]
    out = tmp_path / "out"
    request = join_request(source, probe(source), settings, pieces, out)
    join_pieces(lambda: [tmp_path / piece.name for piece in pieces], request, source, out, never)
    assert max(abs(a - b) for a, b in zip(shown(out), wanted, strict=True)) <= EXACT[output_type]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.data())
def test_decoding_times(gaps: list[int], data: st.DataObject) -> None:
    """For any frame rate, and any reordering by at most two frames."""
    shown_at = [sum(gaps[:at]) for at in range(len(gaps))]
    waiting, sent = shown_at[1:], shown_at[:1]  # a piece begins with the frame that is shown first
    while waiting:
        ahead = 0 if len(sent) - shown_at.index(waiting[0]) >= 2 else data.draw(st.integers(0, 2))
        sent.append(waiting.pop(min(ahead, len(waiting) - 1)))
    clock = DecodingTimes(reorder=2, step=40)
    dts = [clock.of(pts) for pts in sent]
    assert all(a < b for a, b in pairwise(dts))
    assert all(a <= b for a, b in zip(dts, sent, strict=True))

"""GIFs as players show them: the right pixels, nothing of the last frame, times that do not drift."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, count, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import EncodingFailed, JobCancelled
from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import Frames, PixelLayout
from serve_app.protocols import Cutout, EncodeSettings, MediaFile
from serve_app.video.encode import encode_piece
from serve_app.video.gif.writer import paced
from serve_app.video.join import join_pieces
from tests.video.clips import CLIPS
from tests.video.conftest import Clips
from tests.video.gifs import played, structure
from tests.video.pipeline import PROVENANCE, convert, never, request_of, times, write_piece

CLOCK = Fraction(1, 1000)
SETTINGS = EncodeSettings(
    OutputType.GIF, Quality.MAXIMUM, WriteMode.FAST, CLOCK, 500, Fraction(25), Fraction(1)
)


def cutout(rgb: np.ndarray, matte: np.ndarray, pts: Sequence[int] | None = None) -> Cutout:
    """From pictures [N, H, W, 3] and mattes [N, H, W]; 25 frames a second from the origin on."""
    frames, height, width = matte.shape
    layout = PixelLayout(width, height, "444", matrix="rgb", full_range=True)
    ticks = np.array(pts if pts is not None else [500 + 40 * n for n in range(frames)])
    return Cutout(Frames(tuple(np.moveaxis(rgb, 3, 0)), layout, ticks, CLOCK), matte, PROVENANCE, 0.0)


def discs(frames: int, height: int = 48, width: int = 64, first: int = 0) -> Cutout:
    """A disc of many colours with a soft edge that wanders over nothing."""
    y, x = np.mgrid[0:height, 0:width]
    mattes, pictures = [], []
    for n in range(first, first + frames):
        distance = np.hypot(y - height / 2, x - (n * 5) % width)
        mattes.append(np.clip(255 * (height / 3 - distance) / 4 + 128, 0, 255).astype(np.uint8))
        pictures.append(np.stack([x * 4 % 256, y * 5 % 256, (x + y + n) * 2 % 256], -1).astype(np.uint8))
    pts = [500 + 40 * n for n in range(first, first + frames)]
    return cutout(np.stack(pictures), np.stack(mattes), pts)


def write(
    folder: Path, cutouts: Sequence[Cutout], settings: EncodeSettings = SETTINGS, duration: int = 40
) -> tuple[Path, MediaFile]:
    pieces = [write_piece(part, settings, folder / f"{number}.piece") for number, part in enumerate(cutouts)]
    out = folder / "out.gif"
    paths = [folder / piece.name for piece in pieces]
    request = request_of(pieces, settings, duration, out)
    return out, join_pieces(lambda: paths, request, folder / "no source", out, never)


def test_what_a_player_shows(tmp_path: Path) -> None:
    parts = [discs(10), discs(7, first=10)]
    out, media = write(tmp_path, parts)
    assert (media.width, media.height, media.num_frames, media.fps, media.duration) == (
        64,
        48,
        17,
        25.0,
        0.68,
    )
    assert (media.content_type, media.file_size) == ("image/gif", out.stat().st_size)
    shown = played(out)
    seen = np.concatenate([part.matte for part in parts]) >= 128
    assert np.array_equal(shown[..., 3] == 255, seen) and np.array_equal(shown[..., 3] == 0, ~seen)
    wanted = np.concatenate([np.stack(part.colour.planes, -1) for part in parts])
    error = (shown[..., :3].astype(int) - wanted)[seen]
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 28  # of some thousand colours, 255 are left
    made = structure(out)
    assert (made.size, made.colours, made.loops) == ((64, 48), 256, 0)
    assert {(image.disposal, image.ticks) for image in made.images} == {(2, 4)}
    assert len({image.transparent for image in made.images}) == 1


def test_nothing_shines_through(tmp_path: Path) -> None:
    """Full, empty, a dot, full of another colour, a corner: each only itself."""
    matte = np.zeros((6, 20, 30), np.uint8)
    matte[0] = matte[3] = 255
    matte[2, 7, 11] = 128
    matte[4, 15:, 25:] = 200
    matte[5] = 127
    rgb = np.zeros((6, 20, 30, 3), np.uint8)
    rgb[:] = np.array([[250, 10, 20], [0, 0, 0], [30, 200, 40], [20, 30, 250], [90, 90, 90], [9, 9, 9]])[
        :, None, None
    ]
    out, _ = write(tmp_path, [cutout(rgb, matte)])
    shown = played(out)
    assert np.array_equal(shown[..., 3], np.where(matte >= 128, 255, 0))
    assert np.array_equal(shown[..., :3][matte >= 128], rgb[matte >= 128])  # few colours are kept as they are
    boxes = [image.box for image in structure(out).images]
    assert boxes[0] == boxes[3] == (0, 0, 30, 20)
    assert boxes[1:3] == [(0, 0, 1, 1), (11, 7, 1, 1)] and boxes[4:] == [(25, 15, 5, 5), (0, 0, 1, 1)]


def test_never_anything_seen(tmp_path: Path) -> None:
    out, media = write(tmp_path, [cutout(np.zeros((2, 5, 7, 3), np.uint8), np.zeros((2, 5, 7), np.uint8))])
    assert (media.width, media.height, media.num_frames) == (7, 5, 2)
    assert not played(out)[..., 3].any()


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (2, 3)])
@pytest.mark.parametrize("mode", list(WriteMode))
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], mode: WriteMode) -> None:
    part = discs(4, *size)
    out, media = write(tmp_path, [part], replace(SETTINGS, write_mode=mode))
    assert (media.height, media.width) == size
    assert np.array_equal(played(out)[..., 3] == 255, part.matte >= 128)


def test_same_bytes_however_it_is_cut(tmp_path: Path) -> None:
    """The palette comes from the sum of all pieces."""
    whole = discs(12)
    cuts = [[discs(12)], [discs(5), discs(7, first=5)], [discs(1, first=n) for n in range(12)]]
    for mode in WriteMode:
        settings = replace(SETTINGS, write_mode=mode, quality=Quality.LOW)
        assert len({write(tmp_path, cut, settings)[0].read_bytes() for cut in cuts}) == 1
    first, second = (encode_piece(whole, SETTINGS, tmp_path / name, never) for name in "ab")
    assert first == second and (first.frames, first.first_pts, first.last_pts) == (12, 500, 940)
    assert sorted(path.name for path in tmp_path.iterdir() if "frames" in path.name) == []


@pytest.mark.parametrize(
    "name", ["film.mp4", "vfr.mp4", "vfr.ts", "late.mp4", "odd.mp4", "hdr.mp4", "rgba.mkv"]
)
def test_clips(clip: Clips, tmp_path: Path, name: str) -> None:
    index, out, media = convert(clip(name), tmp_path, OutputType.GIF, frames=13)
    ticks = [image.ticks for image in structure(out).images]
    assert len(ticks) == media.num_frames == CLIPS[name].frames
    wanted = times(index)
    for begun, time in zip(accumulate(ticks, initial=0), [*wanted, None], strict=True):
        end = wanted[-1] + index.frame_duration * index.time_base
        assert abs(Fraction(begun, 100) - ((end if time is None else time) - wanted[0])) <= Fraction(1, 200)
    assert (media.width, media.height) == (index.layout.width, index.layout.height)


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=60), st.integers(1, 9000))
def test_pace(gaps: list[int], last: int) -> None:
    """For any times: no image is shorter than a player can show, none is late, and the sum is right."""
    at = [Fraction(sum(gaps[:n]), 90_000) for n in range(len(gaps))]
    paces = list(paced(zip(at, at, strict=True), Fraction(last, 90_000)))
    begun = list(accumulate((ticks for _, ticks in paces), initial=0))
    assert all(ticks >= 2 for _, ticks in paces)
    for time, (frame, _) in zip(begun, paces, strict=False):
        assert abs(Fraction(time, 100) - frame) <= Fraction(1, 200)
    end = at[-1] + Fraction(last, 90_000)
    assert begun[-1] == max(begun[-2] + 2, math.floor(end * 100 + Fraction(1, 2)))


@pytest.mark.parametrize(("rate", "kept"), [(50, 100), (60, 80), (100, 100), (120, 100), (240, 100)])
def test_fast_sources_lose_frames_evenly(rate: int, kept: int) -> None:
    frames = list(paced(((Fraction(n, rate), n) for n in range(2 * rate)), Fraction(1, rate)))
    assert 200 <= sum(ticks for _, ticks in frames) <= 202  # the last may last longer than it should
    assert len(frames) == pytest.approx(kept, abs=1)
    steps = {after[0] - before[0] for before, after in pairwise(frames)}
    assert max(steps) - min(steps) <= max(1, rate // 100)


def test_a_long_still(tmp_path: Path) -> None:
    """A GIF's image lasts eleven minutes at most: a longer one is shown again."""
    part = cutout(np.full((2, 4, 4, 3), 80, np.uint8), np.full((2, 4, 4), 255, np.uint8), [500, 800_500])
    out, media = write(tmp_path, [part])
    assert [image.ticks for image in structure(out).images] == [65535, 80_000 - 65535, 4]
    assert media.duration == pytest.approx(800.04)


def test_pieces_that_do_not_fit(tmp_path: Path) -> None:
    for parts, message in (
        ([discs(3), discs(3, 50, first=3)], "different encoder settings"),
        ([discs(3, first=3), discs(3)], "overlap"),
        ([], "nothing to join"),
    ):
        with pytest.raises(EncodingFailed, match=message):
            write(tmp_path, parts)
        assert not (tmp_path / "out.gif").exists()
    calls = count()
    piece, out = write_piece(discs(3), SETTINGS, tmp_path / "0.piece"), tmp_path / "out.gif"
    request = request_of([piece], SETTINGS, 40, out)
    with pytest.raises(JobCancelled):
        join_pieces(lambda: [tmp_path / "0.piece"], request, tmp_path, out, lambda: next(calls) >= 2)
    with pytest.raises(JobCancelled):
        encode_piece(discs(3), SETTINGS, tmp_path / "half", lambda: next(calls) >= 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.piece", "1.piece"]


def test_one_piece_at_a_time(tmp_path: Path) -> None:
    """Pieces may be fetched while joining, each into the place of the one before; twice."""
    made = [write_piece(discs(2, first=2 * n), SETTINGS, tmp_path / str(n)) for n in range(6)]
    opened: list[int] = []

    def fetched() -> Iterator[Path]:
        for piece in made:
            opened.append(len(list(Path("/proc/self/fd").iterdir())))
            place = tmp_path / "the one piece"
            place.write_bytes((tmp_path / piece.name).read_bytes())
            yield place
            place.unlink()

    out = tmp_path / "out.gif"
    media = join_pieces(fetched, request_of(made, SETTINGS, 40, out), tmp_path, out, never)
    assert media.num_frames == 12 and len(opened) == 12
    assert len(set(opened[:6])) == len(set(opened[7:])) == 1


LONG = """
import sys
from dataclasses import replace
from pathlib import Path
from serve_app.video.join import join_pieces
from tests.video.pipeline import request_of, write_piece
from tests.video.test_gif import SETTINGS, discs, never
folder, parts = Path(sys.argv[1]), int(sys.argv[2])
part, pieces = discs(24, 360, 640), []
for number in range(parts):
    colour = replace(part.colour, pts=part.colour.pts + 960 * number)
    pieces.append(write_piece(replace(part, colour=colour), SETTINGS, folder / str(number)))
out = folder / "out.gif"
paths = [folder / piece.name for piece in pieces]
media = join_pieces(lambda: paths, request_of(pieces, SETTINGS, 40, out), folder, out, never)
assert media.num_frames == 24 * parts
print(next(line for line in Path("/proc/self/status").open() if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.long
def test_memory_is_flat(tmp_path: Path) -> None:
    """600 frames of 640 x 360 need as much memory as 48; they would fill 550 MB."""
    peaks = []
    for parts in (2, 25):
        done = subprocess.run(
            [sys.executable, "-c", LONG, str(tmp_path), str(parts)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 24 and peaks[1] < 300

"""Awkward clips through the real stages: every frame at its time, the sound in step, damage said and nothing else
lost; and chunked decoding equals linear decoding for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from serve_app.fal import OutputType
from serve_app.protocols import IndexBrief
from serve_app.runner.plan import plan_chunks
from serve_app.video.decode import ChunkDecoder, linear
from serve_app.video.probe import probe
from tests.video.clips import number_of
from tests.video.corpus import CASES, DAMAGED, Case
from tests.video.pipeline import convert, limits, never, shown, times

TICK = {OutputType.MP4: 1e-5, OutputType.WEBM: 1e-3, OutputType.MOV: 1e-5, OutputType.GIF: 6e-3}
QUICK = ("h264.ts", "screen.mkv", "seven.mkv", "latesound.mkv", "reset.ts", "latin1.avi", "hidden.webm", "gap-pcm.mkv",
         "cut.mkv", "cut.webm", "cut.avi", "cut.ts", "cut-fragmented.mp4", "rubbish.mkv", "preview.mkv")  # fmt: skip


def named(*names: str) -> list[Any]:
    """All cases; those that are not of `names` take long."""
    return [
        pytest.param(case, id=name, marks=() if name in names else pytest.mark.long)
        for name, case in CASES.items()
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    folder, paths = tmp_path_factory.mktemp("corpus"), {}

    def path_of(case: Case) -> Path:
        if case.name not in paths:
            paths[case.name] = case.make(folder)
        return paths[case.name]

    return path_of


@pytest.mark.parametrize("case", named(*QUICK))
def test_to_mp4(made: Callable[[Case], Path], tmp_path: Path, case: Case) -> None:
    check(made(case), tmp_path, case, OutputType.MP4)


@pytest.mark.long
@pytest.mark.parametrize("output_type", [OutputType.WEBM, OutputType.MOV, OutputType.GIF])
@pytest.mark.parametrize("case", named(*CASES))
def test_to_other_types(
    made: Callable[[Case], Path], tmp_path: Path, case: Case, output_type: OutputType
) -> None:
    check(made(case), tmp_path, case, output_type)


def check(source: Path, folder: Path, case: Case, output_type: OutputType) -> None:
    warnings: list[str] = []
    index, out, media = convert(source, folder, output_type, frames=13, warnings=warnings)
    seen, planned = shown(out), times(index)
    start = planned[0] if output_type is OutputType.GIF else 0  # a GIF begins with its first frame
    if (
        case.name != "fast.mkv" or output_type is not OutputType.GIF
    ):  # 120 frames a second are too many for one
        assert len(seen) == media.num_frames
        assert len(seen) == case.frames or (case.frames is None and 0.3 * len(planned) < len(seen))
        near = np.searchsorted([float(t - start) + 6e-3 for t in planned], [float(t) for t in seen])
        assert all(
            abs(a - (planned[n] - start)) <= TICK[output_type] for a, n in zip(seen, near, strict=True)
        )
        assert len(set(near)) == len(seen)
    duration = case.duration or index.duration_s
    if output_type is not OutputType.GIF:
        duration += float(planned[0])
    assert media.duration + float(seen[0]) == pytest.approx(duration, abs=0.0125)
    if case.warns is None:
        assert warnings == [] or case.name.startswith(("reset", "cut"))
    else:
        assert re.search(case.warns, " ".join(warnings))
    if output_type is OutputType.GIF:
        return
    if case.numbered:
        assert numbers(out) == list(range(len(seen)))
    if case.claps is not None:
        check_claps(out, float(seen[0]), case.claps)


def check_claps(out: Path, start: float, wanted: tuple[tuple[float, float], ...]) -> None:
    flashes, beeps = list(rises(*brightness(out), 190)), list(rises(*loudness(out), 0.15))
    assert [flash - start for flash in flashes] == pytest.approx([flash for flash, _ in wanted], abs=0.0025)
    offsets = [beep - flash for flash, beep in wanted]
    assert [beep - flash for flash, beep in zip(flashes, beeps, strict=True)] == pytest.approx(
        offsets, abs=0.022
    )


def numbers(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [number_of(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def brightness(path: Path) -> tuple[list[float], list[float]]:
    """Times, and how bright the lower half of each frame is."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]
    return [time for time, _ in frames], [float(grey[grey.shape[0] // 2 :].mean()) for _, grey in frames]


def loudness(path: Path) -> tuple[list[float], list[float]]:
    """Times, and the loudest sample of the next few milliseconds."""
    times: list[float] = []
    levels: list[float] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt")
        for frame in container.decode(audio=0):
            assert frame.time is not None
            for part in resampler.resample(frame):
                channels = part.layout.nb_channels
                level = np.abs(part.to_ndarray()[0].reshape(-1, channels)).max(1)
                for first in range(0, len(level), part.sample_rate // 200):
                    times.append(frame.time + first / part.sample_rate)
                    levels.append(float(level[first : first + part.sample_rate // 200].max()))
    return times, levels


def rises(at: list[float], level: list[float], limit: float) -> Iterator[float]:
    """When a level goes over a limit after a quiet time."""
    last = -1.0
    for time, value in zip(at, level, strict=True):
        if value > limit:
            if time - last > 0.3:
                yield float(time)
            last = float(time)


@pytest.mark.parametrize("case", named("hidden.webm", *(case.name for case in DAMAGED)))
def test_chunked_equals_linear(made: Callable[[Case], Path], case: Case) -> None:
    path = made(case)
    index = probe(path, decode=case.name == "hidden.webm")
    brief = IndexBrief.of(index)
    reference = list(linear(path, brief))
    pts = np.concatenate([frames.pts for frames in reference])
    planes = [np.concatenate(parts) for parts in zip(*(frames.planes for frames in reference), strict=True)]
    assert all(a < b for a, b in pairwise(pts))
    for size in (1, 7, 24):
        chunks = plan_chunks(index, limits(size))
        for order, threads in ((chunks, 1), (chunks[::-1], 2)):
            with closing(ChunkDecoder(path, brief, threads)) as decoder:
                parts = sorted(
                    (decoder.decode(chunk, never) for chunk in order),
                    key=lambda part: part.pts[0] if len(part) else -1,
                )
            assert np.array_equal(np.concatenate([part.pts for part in parts]), pts)
            for number, plane in enumerate(planes):
                assert np.array_equal(np.concatenate([part.planes[number] for part in parts]), plane)

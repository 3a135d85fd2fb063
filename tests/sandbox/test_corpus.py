"""Every container and codec of the corpus in media processes: a confined codec may need what it does not have."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from serve_app.fal import OutputType
from serve_app.protocols import IndexBrief
from serve_app.runner.plan import plan_chunks
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import SourceLimits
from serve_app.video.decode import ChunkDecoder
from serve_app.video.probe import probe
from tests.sandbox.stages import run
from tests.sandbox.test_sandbox import same_frames, same_index
from tests.video.corpus import CASES, SOUND, Case
from tests.video.pipeline import limits, never


@pytest.mark.long
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_source_is_read_alike(sandbox: Sandbox, tmp_path: Path, case: Case) -> None:
    path = case.make(tmp_path)
    index = probe(path)
    assert same_index(sandbox.probe(path, SourceLimits(), never), index)
    brief = IndexBrief.of(index)
    with closing(sandbox.source(path, brief)) as confined, closing(ChunkDecoder(path, brief)) as decoder:
        for chunk in plan_chunks(index, limits(7)):
            assert same_frames(confined.decode(chunk, never), decoder.decode(chunk, never))


@pytest.mark.long
@pytest.mark.parametrize("kind", [OutputType.MP4, OutputType.WEBM, OutputType.MOV])
@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_sound_is_written(sandbox: Sandbox, tmp_path: Path, case: Case, kind: OutputType) -> None:
    path = case.make(tmp_path)
    assert run(sandbox, path, tmp_path, SourceLimits(), kind).error is None

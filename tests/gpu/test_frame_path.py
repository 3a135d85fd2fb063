"""From planes to a cutout on CUDA: what a CPU gives, for every layout of a source and every type of output."""

from __future__ import annotations

import pytest

from serve_app.fal import OutputType
from serve_app.picture import PixelLayout
from serve_app.segmentation.processing import CutoutEngine
from tests.segmentation.frame_path import BASE, BOUNDS, LAYOUTS, Distance, cut_out, engine_on, layout_name

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact_float32")]


@pytest.fixture(scope="module")
def reference(device: str) -> CutoutEngine:
    return engine_on("cpu")


@pytest.fixture(scope="module", params=list(BOUNDS))
def engine(request: pytest.FixtureRequest, device: str) -> tuple[CutoutEngine, Distance]:
    """An engine in one precision, and how far its cutouts may be from the CPU's."""
    return engine_on(device, request.param), BOUNDS[request.param]


@pytest.mark.parametrize("output_type", list(OutputType))
@pytest.mark.parametrize("layout", LAYOUTS, ids=layout_name)
def test_a_cutout_is_that_of_the_cpu(
    reference: CutoutEngine,
    engine: tuple[CutoutEngine, Distance],
    layout: PixelLayout,
    output_type: OutputType,
) -> None:
    on_cuda, bounds = engine
    distance = Distance.between(
        cut_out(on_cuda, layout, output_type), cut_out(reference, layout, output_type)
    )
    assert distance.within(bounds), distance


def test_several_batches(reference: CutoutEngine, engine: tuple[CutoutEngine, Distance]) -> None:
    """Of 16 frames each, the last one not full."""
    on_cuda, bounds = engine
    found, expected = (cut_out(one, BASE, OutputType.MP4, 40) for one in (on_cuda, reference))
    distance = Distance.between(found, expected)
    assert distance.within(bounds), distance

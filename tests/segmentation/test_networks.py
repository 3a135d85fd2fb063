"""Each way to run the network against the reference results, and what is kept of a converted one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from serve_app.birefnet.checkpoints import Checkpoint, find
from serve_app.errors import CheckpointError
from serve_app.segmentation.networks import Network, make_network
from serve_app.segmentation.openvino_network import computes_in_bfloat16
from serve_app.settings import EMBEDDED, SegmenterSettings
from tests.birefnet import reference
from tests.birefnet.parity import BOUNDS, GOLDENS, Errors, backbone_of

# bfloat16 against the float32 goldens: the matte's probability at its worst pixel, and on average.
BFLOAT16_WORST, BFLOAT16_MEAN = 0.1, 0.01
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Files of the published shape with the reference weights."""
    found = {}
    for backbone in ("swin_v1_t", "swin_v1_l"):
        directory = tmp_path_factory.mktemp(backbone)
        weights = {k: torch.from_numpy(v) for k, v in reference.state_dict(backbone).items()}
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        found[backbone] = find(str(directory), SegmenterSettings())
    return found


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the service: more would wait for each other on a loaded machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(checkpoint: Checkpoint, engine: str, dtype: Dtype, cache: Path) -> Network:
    return make_network(checkpoint, SegmenterSettings(engine=engine, dtype=dtype, cache=cache))


def embedded() -> Checkpoint:
    return find(EMBEDDED, SegmenterSettings())


def run(network: Network, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(logits, reference), image by image: an engine on a CPU sees one at a time."""
    golden = np.load(reference.DATA / f"golden_{name}.npz")
    meta = json.loads(str(golden["meta"]))
    pixels = torch.from_numpy(reference.image(meta["image_seed"], tuple(meta["shape"])))
    return np.concatenate([network(one[None]).numpy() for one in pixels]), golden["logits"]


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("name", GOLDENS)
def test_float32_equals_the_golden(
    checkpoints: dict[str, Checkpoint], tmp_path: Path, engine: str, name: str
) -> None:
    found = Errors.of(*run(made(checkpoints[backbone_of(name)], engine, "float32", tmp_path), name))
    assert found.within(BOUNDS[torch.float32]), found


@pytest.mark.long
@pytest.mark.parametrize("name", GOLDENS[1:])
def test_bfloat16_is_near_the_golden(checkpoints: dict[str, Checkpoint], tmp_path: Path, name: str) -> None:
    checkpoint = checkpoints[backbone_of(name)]
    if not computes_in_bfloat16():
        with pytest.raises(CheckpointError, match="cannot compute in bfloat16"):
            made(checkpoint, "openvino", "bfloat16", tmp_path)
        return
    logits, golden = (
        torch.from_numpy(x).sigmoid() for x in run(made(checkpoint, "openvino", "bfloat16", tmp_path), name)
    )
    difference = (logits - golden).abs()
    assert difference.max() < BFLOAT16_WORST
    assert difference.mean() < BFLOAT16_MEAN


PIXELS = torch.from_numpy(reference.image(5, (4, 3, 64, 64)))
OTHER_PROCESS = """
import sys
from pathlib import Path
import torch
from tests.segmentation.test_networks import PIXELS, embedded, made
network = made(embedded(), "openvino", "float32", Path(sys.argv[1]))
torch.save(torch.cat([network(one[None]) for one in PIXELS]), sys.argv[2])
"""


def test_threads_and_processes_compute_the_same_bits(tmp_path: Path) -> None:
    network = made(embedded(), "openvino", "float32", tmp_path / "engines")
    alone = torch.cat([network(one[None]) for one in PIXELS])
    with ThreadPoolExecutor(2) as pool:
        beside = torch.cat(list(pool.map(lambda one: network(one[None]), PIXELS)))
    assert torch.equal(beside, alone)
    for cache in ("engines", "other"):  # read back, and converted again
        command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / cache), str(tmp_path / "logits")]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
        assert torch.equal(torch.load(tmp_path / "logits"), alone)


FIRST_USE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.segmentation.test_networks import PIXELS, embedded, made
network = made(embedded(), "openvino", "float32", Path(sys.argv[1]))
network.prepare((64, 64))
sys.setswitchinterval(1e-6)
for _ in range(3):  # Python that wants the GIL, as in a replica
    threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
with ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda one: network(one[None]), PIXELS))
"""


def test_the_first_inferences_of_a_process_may_run_side_by_side(tmp_path: Path) -> None:
    """OpenVINO's bindings deadlocked here in five of six processes."""
    for _ in range(4):
        command = [sys.executable, "-c", FIRST_USE, str(tmp_path)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2], timeout=120)


def test_a_converted_network_is_kept_and_the_one_before_it_is_not(tmp_path: Path) -> None:
    made(embedded(), "openvino", "float32", tmp_path).prepare((64, 64))
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    made(embedded(), "openvino", "float32", tmp_path).prepare((64, 64))
    assert (list(tmp_path.iterdir()), kept.stat().st_mtime_ns) == ([kept], written)
    older = kept.rename(
        tmp_path / f"{kept.stem[:-16]}{'0' * 16}.blob"
    )  # as another version would have named it
    network = made(embedded(), "openvino", "float32", tmp_path)
    network.prepare((64, 64))
    assert not older.exists()
    network.prepare((96, 64))
    assert len(list(tmp_path.iterdir())) == 2


def test_auto_takes_what_the_checkpoint_bears(checkpoints: dict[str, Checkpoint], tmp_path: Path) -> None:
    names = [made(c, "auto", "auto", tmp_path).name for c in (embedded(), checkpoints["swin_v1_t"])]
    assert names == ["openvino float32", f"openvino {'bfloat16' if computes_in_bfloat16() else 'float32'}"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda"}, "shows no CUDA device"),
        ({"engine": "openvino", "dtype": "float16"}, "cannot compute in float16"),
    ],
)
def test_what_this_machine_cannot_do_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on any machine
    with pytest.raises(CheckpointError, match=message):
        make_network(embedded(), SegmenterSettings(cache=tmp_path, **settings))

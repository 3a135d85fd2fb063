"""`birefnet-serve models`: what each variant is, where it comes from, and how fast it last ran."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from serve_app.birefnet.checkpoints import EMBEDDED_DIR, find
from serve_app.birefnet.tile_orders import TileOrders
from serve_app.cli.main import app
from serve_app.cli.model_check import better
from serve_app.database.migrate import migrate
from serve_app.errors import CheckpointMismatch
from serve_app.fal import Variant
from serve_app.jobs.model import NewJob
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import Settings
from tests.api.harness import MEDIA
from tests.birefnet import reference
from tests.cli.test_doctor import profile


def listed(path: Path) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(app, ["models", "--config", str(path), "--json"])
    assert done.exit_code == 0, done.output
    return {item["model"]: item for item in json.loads(done.stdout)}


def test_checkpoints_at_hand_and_missing(tmp_path: Path) -> None:
    directory = published(tmp_path / "matting")
    segmenters = {"Matting": {"checkpoint": str(directory)}, "Portrait": {"checkpoint": "/none"}}
    path = profile(tmp_path, segmenters=segmenters)
    found = listed(path)
    assert list(found) == [variant.value for variant in Variant]
    light, matting, portrait = (found[name] for name in ("General Use (Light)", "Matting", "Portrait"))
    assert (light["checkpoint"], light["backbone"]) == ("embedded", "u2netp")
    assert light["loaded_from"] == str(EMBEDDED_DIR / "model.safetensors")
    assert (matting["backbone"], matting["loaded_from"]) == (
        "swin_v1_t",
        str(directory / "model.safetensors"),
    )
    assert portrait["loaded_from"] is None and "does not exist" in portrait["problem"]
    assert all(item["frames_per_second"] is None for item in found.values())
    shown = CliRunner().invoke(app, ["models", "--config", str(path)]).stdout
    assert shown.count("not measured here") == 6


def test_the_rate_of_the_last_job(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite'}"
    (tmp_path / "data").mkdir()
    migrate(url)

    async def run() -> float:
        store = SqlJobStore(url)
        await store.open()
        try:
            request = JobRequest("http://host.example/v.mp4", variant=Variant.MATTING)
            payload = {"video_url": request.video_url, "model": request.variant.value}
            job = await store.insert(NewJob(str(uuid4()), request.as_json(), payload))
            (claim,) = await store.claim("test", 15.0, 1)
            assert await store.complete(claim.lease, JobResult(replace(MEDIA, num_frames=100)).as_json())
            ended = await store.get(job.id)
            assert ended is not None and ended.started_at is not None and ended.finished_at is not None
            return ended.finished_at - ended.started_at
        finally:
            await store.close()

    seconds = asyncio.run(run())
    found = listed(profile(tmp_path))
    assert found["Matting"]["frames_per_second"] == 100 / seconds
    assert found["Portrait"]["frames_per_second"] is None


def published(directory: Path) -> Path:
    """A directory of the published shape, without a configuration, and random weights."""
    directory.mkdir()
    weights = {name: torch.from_numpy(value) for name, value in reference.state_dict("swin_v1_t").items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_check_runs_what_is_at_hand_in_both_orders(tmp_path: Path) -> None:
    directory = published(tmp_path / "matting")
    segmenters = {"Matting": {"checkpoint": str(directory)}, "Portrait": {"checkpoint": "/none"}}
    path = profile(tmp_path, segmenters=segmenters)
    done = CliRunner().invoke(
        app,
        [
            "models",
            "--check",
            "--json",
            "--size",
            "256",
            "--out",
            str(tmp_path / "out"),
            "--config",
            str(path),
        ],
    )
    assert done.exit_code == 0, done.output
    embedded, random = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert embedded["checkpoint"] == "embedded birefnet-mini"
    assert embedded["agreement"]["colour_first"] > 0.7
    assert not embedded["recorded"]  # its configuration names the order
    assert random["checkpoint"] == str(directory)
    assert random["recorded"] == (random["better"] is not None)
    for checked in (embedded, random):
        with av.open(checked["sheet"]) as sheet:
            assert (sheet.streams.video[0].width, sheet.streams.video[0].height) == (
                4 * 320 + 18,
                4 * 180 + 18,
            )


def test_the_order_that_agrees_better() -> None:
    assert better({"colour_first": 0.9, "position_first": 0.8}) == "colour_first"
    assert better({"colour_first": 0.8, "position_first": 0.9}) == "position_first"
    assert better({"colour_first": 0.9, "position_first": 0.901}) is None


def test_loading_honours_what_was_recorded(tmp_path: Path) -> None:
    directory = published(tmp_path / "matting")
    settings = Settings(data_dir=tmp_path / "data").segmenter_for(Variant.MATTING)
    plain = find(str(directory), settings)
    assert plain.config.tile_order == "colour_first"
    assert settings.tile_orders is not None
    TileOrders(settings.tile_orders).record(plain.weights, "position_first")
    recorded = find(str(directory), settings)
    assert recorded.config.tile_order == recorded.network().decoder.tile_order == "position_first"
    assert recorded.digest() != plain.digest()  # compiled networks are kept by it
    settings.tile_orders.write_text('{"x": "sideways"}')
    with pytest.raises(CheckpointMismatch, match="models --check"):
        find(str(directory), settings)

"""`birefnet-serve models`: what each variant is, where it comes from, and how fast it last ran."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from serve_app.birefnet.checkpoints import EMBEDDED_DIR
from serve_app.cli.main import app
from serve_app.database.migrate import migrate
from serve_app.fal import Variant
from serve_app.jobs.model import NewJob
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import MEDIA
from tests.birefnet import reference
from tests.cli.test_doctor import profile


def listed(path: Path) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(app, ["models", "--config", str(path), "--json"])
    assert done.exit_code == 0, done.output
    return {item["model"]: item for item in json.loads(done.stdout)}


def test_checkpoints_at_hand_and_missing(tmp_path: Path) -> None:
    directory = tmp_path / "matting"
    directory.mkdir()
    weights = {name: torch.from_numpy(value) for name, value in reference.state_dict("swin_v1_t").items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
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

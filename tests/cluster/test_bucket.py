"""The whole service on an S3 bucket: sources, pieces, outputs and uploads, through presigned URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.artifacts.s3 import S3Server
from tests.cluster.media import read
from tests.cluster.service import ENDPOINT, JOB_S, MediaServer, Service
from tests.video.clips import X264, Clip, make
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

CLIP = Clip("bucket.mp4", frames=40, width=96, height=64, options=X264, audio="aac", audio_seconds=1.6)
SECRET = "a secret that all nodes share"


@dataclass(frozen=True)
class OnBucket:
    """A service that stores its artifacts in its own bucket."""

    service: Service
    endpoint: str
    bucket: str

    def objects(self) -> list[str]:
        listed = httpx.get(f"{self.endpoint}/{self.bucket}", params={"list-type": 2}, trust_env=False)
        return re.findall(r"<Key>prefix/(.*?)</Key>", listed.raise_for_status().text)


@pytest.fixture(scope="module")
def on_bucket(moto: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnBucket]:
    bucket = moto.new_bucket()
    environment = {"BIREFNET_ARTIFACTS": f"s3://{bucket}/prefix", "BIREFNET_SECRET": SECRET}
    environment |= moto.environment()
    service = Service.start(tmp_path_factory.mktemp("bucket") / "data", environment=environment)
    yield OnBucket(service, moto.endpoint, bucket)
    assert service.stop() == 0


def test_a_job_leaves_only_its_outputs_in_the_bucket(
    on_bucket: OnBucket, media_server: MediaServer, clips_dir: Path, tmp_path: Path
) -> None:
    make(clips_dir / CLIP.name, CLIP)
    fields = {"output_mask": True, "video_output_type": "VP9 (.webm)"}
    reply = on_bucket.service.cut_out(media_server.url(CLIP.name), **fields)
    assert reply.status_code == 200, reply.text
    job = reply.headers["x-fal-request-id"]
    for key, name in (("video", "output"), ("mask_video", "mask")):
        file = reply.json()[key]
        assert file["url"].startswith(on_bucket.endpoint) and "X-Amz-Signature=" in file["url"]
        got = httpx.get(file["url"], trust_env=False)
        assert (got.status_code, got.headers["content-type"]) == (200, "video/webm")
        assert len(got.content) == file["file_size"]
        path = tmp_path / f"{name}.webm"
        path.write_bytes(got.content)
        assert len(read(path).times) == CLIP.frames
    assert on_bucket.objects() == [f"outputs/{job}/1/mask.webm", f"outputs/{job}/1/output.webm"]


def test_an_upload_is_a_source_without_a_download(on_bucket: OnBucket, clips_dir: Path) -> None:
    client = on_bucket.service.client
    clip = make(clips_dir / "upload.mp4", CLIP)
    announced = {"content_type": "video/mp4", "file_name": "upload.mp4"}
    target = client.post("/rest/storage/upload/initiate", json=announced).json()
    put = httpx.put(
        target["upload_url"],
        content=clip.read_bytes(),
        headers={"Content-Type": "video/mp4"},
        trust_env=False,
    )
    assert put.is_success
    back = httpx.get(target["file_url"], follow_redirects=True, trust_env=False)
    assert back.content == clip.read_bytes()
    submitted = client.post(f"/queue{ENDPOINT}", json={"video_url": target["file_url"]}).json()
    result = client.post(ENDPOINT, json={"video_url": target["file_url"], "sync_mode": True})
    assert result.status_code == 200, result.text
    assert result.json()["video"]["url"].startswith("data:video/mp4;base64,")
    wait_until(lambda: client.get(submitted["status_url"]).json()["status"] == "COMPLETED", JOB_S)
    logs = client.get(submitted["status_url"], params={"logs": 1}).json()["logs"]
    assert any(line["message"].startswith("the source is a file of this service") for line in logs)
    assert client.get(submitted["response_url"]).status_code == 200

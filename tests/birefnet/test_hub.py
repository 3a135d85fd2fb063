"""Pull, lock and offline mode against a hub on loopback, through the real client, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
from tests.birefnet.hub_server import HubServer

ROOT = Path(__file__).parents[2]
NAME = "somebody/small-birefnet"
LOAD = """
import sys
from pathlib import Path
from serve_app.birefnet.checkpoints import find
from serve_app.settings import SegmenterSettings
lock = Path(sys.argv[2]) if sys.argv[2] else None
try:
    checkpoint = find(sys.argv[1], SegmenterSettings(lock=lock, offline=sys.argv[3] == "offline"))
    print("loaded", checkpoint.name, checkpoint.network().config.backbone)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of our own small network in the published form."""
    directory = tmp_path_factory.mktemp("repository")
    torch.manual_seed(1)
    network = BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone("u2netp"))
    network.save_pretrained(directory)
    return directory


@pytest.fixture
def hub(files: Path, tmp_path: Path) -> Iterator[HubServer]:
    copy = tmp_path / "files"
    copy.mkdir()
    for path in files.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    server = HubServer({NAME: copy})
    yield server
    server.stop()


class Machine:
    """A machine with a hub cache and a profile of its own."""

    def __init__(self, home: Path, hub: HubServer) -> None:
        self.lock = home / "data" / "checkpoints.lock.json"
        self.cache = home / "hub"
        self.environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(self.cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        self.config = home / "profile.yaml"
        arguments = {"data_dir": str(home / "data"), "segmenter": {"checkpoint": NAME}}
        application = {"name": "a", "import_path": "serve_app.app:build", "args": arguments}
        self.config.write_text(yaml.safe_dump({"applications": [application]}))

    def pull(self) -> subprocess.CompletedProcess[str]:
        return self._run("-m", "serve_app.cli.main", "pull", "--config", str(self.config))

    def load(self, mode: str = "", lock: bool = True) -> str:
        return self._run("-c", LOAD, NAME, str(self.lock) if lock else "", mode).stdout.strip()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def machine(tmp_path: Path, hub: HubServer) -> Machine:
    return Machine(tmp_path, hub)


def test_pull_locks_commit_and_digests_and_offline_needs_no_hub(machine: Machine, hub: HubServer) -> None:
    done = machine.pull()
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(machine.lock.read_text())["checkpoints"]
    assert (entry["repository"], entry["revision"], entry["commit"]) == (NAME, "main", hub.commit(NAME))
    assert set(entry["files"]) == {"model.safetensors", "config.json"}
    machine.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody there
    assert machine.load("offline") == f"loaded {NAME} u2netp"


def test_a_newer_commit_does_not_come_in_by_itself(machine: Machine, hub: HubServer) -> None:
    assert machine.pull().returncode == 0
    locked = hub.commit(NAME)
    path = hub.repositories[NAME] / "config.json"
    path.write_text(path.read_text() + "\n")
    assert hub.commit(NAME) != locked
    assert machine.load() == f"loaded {NAME} u2netp"
    assert machine.pull().returncode == 0  # asked for, it does
    assert json.loads(machine.lock.read_text())["checkpoints"][0]["commit"] == hub.commit(NAME)


def test_a_changed_file_is_refused(machine: Machine) -> None:
    assert machine.pull().returncode == 0
    (weights,) = (p for p in machine.cache.rglob("model.safetensors"))
    tensors = {"x": torch.zeros(1)}
    weights.unlink()
    save_file(tensors, weights, metadata={"format": "pt"})
    found = machine.load("offline")
    assert found.startswith("CheckpointMismatch")
    assert "is not the file that was locked" in found


def test_without_a_lock_the_revision_is_followed(machine: Machine) -> None:
    assert machine.load(lock=False) == f"loaded {NAME} u2netp"
    assert not machine.lock.exists()


def test_offline_without_a_pull_names_the_remedy(machine: Machine) -> None:
    found = machine.load("offline")
    assert found.startswith("CheckpointMissing")
    assert "birefnet-serve pull" in found


def test_a_repository_that_is_not_there(machine: Machine, hub: HubServer) -> None:
    hub.repositories.clear()
    done = machine.pull()
    assert done.returncode == 1
    assert f"checkpoint {NAME} (revision main) cannot be had" in " ".join(done.stderr.split())
    assert not machine.lock.exists()

"""`birefnet-serve doctor`: all is well on a machine where it is, and each problem comes with its remedy."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import make_url
from typer.testing import CliRunner

from serve_app.cli.main import app
from serve_app.database.migrate import migrate
from serve_app.local.profile import free_port

ROOT = Path(__file__).parents[2]


def profile(tmp_path: Path, **args: Any) -> Path:
    """The local profile on free ports, in a data directory of its own."""
    document = yaml.safe_load((ROOT / "config" / "local.yaml").read_text())
    document["http_options"]["port"] = free_port()
    application = document["applications"][0]
    application["args"] |= {"files": {"port": free_port()}, "data_dir": str(tmp_path / "data"), **args}
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def findings(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and what each check found."""
    done = CliRunner().invoke(app, ["doctor", "--config", str(path), "--json"])
    assert done.stdout, done.output
    return done.exit_code, {item["check"]: item for item in json.loads(done.stdout)}


def problem(path: Path, check: str) -> str:
    """What `check` complains of; it alone."""
    status, found = findings(path)
    assert status == 1
    assert [name for name, item in found.items() if not item["ok"]] == [check]
    return str(found[check]["text"])


def test_all_is_well(tmp_path: Path) -> None:
    path = profile(tmp_path)
    status, found = findings(path)
    assert (status, [item for item in found.values() if not item["ok"]]) == (0, [])
    assert "embedded" in found["checkpoints"]["text"] and "libx264" in found["encoders"]["text"]
    assert "will be created" in found["database"]["text"]
    assert not (tmp_path / "data" / "jobs.sqlite").exists()
    assert list((tmp_path / "data").rglob("doctor-*")) == []


def test_the_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--config", str(profile(tmp_path))])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 9


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    text = problem(profile(tmp_path, segmenter={"checkpoint": "embedded", "device": "cuda"}), "device")
    assert "set `device: cpu`" in text


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    assert "does not exist" in problem(profile(tmp_path, segmenter={"checkpoint": "/nowhere"}), "checkpoints")


def test_a_checkpoint_that_was_not_pulled(tmp_path: Path) -> None:
    """Nothing is downloaded."""
    path = profile(tmp_path, segmenter={"checkpoint": "someone/never-pulled"})
    assert "birefnet-serve pull" in problem(path, "checkpoints")


def test_a_port_of_another_program(tmp_path: Path) -> None:
    path = profile(tmp_path)
    port = yaml.safe_load(path.read_text())["http_options"]["port"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert f"port {port} is taken" in problem(path, "ports")


def test_a_job_table_of_another_version(tmp_path: Path) -> None:
    path = profile(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jobs.sqlite").touch()
    assert "birefnet-serve migrate" in problem(path, "database")
    migrate(f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite'}")
    assert findings(path)[0] == 0


def test_a_database_server(tmp_path: Path, postgres_url: str) -> None:
    status, found = findings(profile(tmp_path, database=postgres_url))
    assert status == 0, found
    gone = make_url(postgres_url).set(port=free_port(), host="127.0.0.1", password="hidden", query={})
    text = problem(profile(tmp_path, database=gone.render_as_string(hide_password=False)), "database")
    assert "cannot be used" in text and "hidden" not in text


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    path = profile(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "artifacts").touch()
    assert "set `data_dir` to another one" in problem(path, "artifacts")

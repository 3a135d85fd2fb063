"""What `serve_app.birefnet` itself offers: the network's two classes, and nothing heavy until they are asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import serve_app.birefnet
from serve_app.birefnet import BiRefNetConfig, BiRefNetForImageSegmentation
from serve_app.birefnet.checkpoints import EMBEDDED_DIR

ROOT = Path(__file__).parents[2]


def test_the_classes_load_a_checkpoint() -> None:
    model = BiRefNetForImageSegmentation.from_pretrained(EMBEDDED_DIR)
    assert type(model.config) is BiRefNetConfig
    assert model.config.backbone == "u2netp"


def test_the_package_lists_what_it_offers() -> None:
    assert set(serve_app.birefnet.__all__) <= set(dir(serve_app.birefnet))
    with pytest.raises(AttributeError, match="no attribute 'BiRefNet'"):
        _ = serve_app.birefnet.BiRefNet  # type: ignore[attr-defined]


def test_torch_comes_with_the_classes_alone() -> None:
    code = (
        "import sys, serve_app.birefnet, serve_app.birefnet.variants\n"
        "print('torch' in sys.modules)\n"
        "from serve_app.birefnet import BiRefNetForImageSegmentation\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "True"]

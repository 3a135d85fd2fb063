"""Tests that need a CUDA device. They are skipped where there is none, and fail there with FAIL_WITHOUT_CUDA=1.

What they do is done on a CPU as well, by the same functions, in `tests/birefnet` and `tests/segmentation`.
"""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    if not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("torch shows no CUDA device, and FAIL_WITHOUT_CUDA=1")
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.fixture
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of float32 in float32, as on a CPU: torch would round their factors to TF32 in convolutions."""
    monkeypatch.setattr("torch.backends.cudnn.conv.fp32_precision", "ieee")
    monkeypatch.setattr("torch.backends.cuda.matmul.fp32_precision", "ieee")

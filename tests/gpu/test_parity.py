"""The network on CUDA against the stored results, in each precision."""

from __future__ import annotations

import pytest
import torch

from tests.birefnet.parity import BOUNDS, GOLDENS, backbone_of, errors, make_network

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact_float32")]


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("name", GOLDENS)
def test_logits_are_those_of_the_golden(device: str, name: str, dtype: torch.dtype) -> None:
    network = make_network(backbone_of(name)).to(device, dtype, memory_format=torch.channels_last)
    found = errors(network, name)
    assert found.within(BOUNDS[dtype]), found

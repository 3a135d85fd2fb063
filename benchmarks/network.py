"""Seconds per frame of the networks at 512x512 on this machine's CPU, random weights (speed does not depend on them).

python -m benchmarks.network
"""

from __future__ import annotations

import argparse
import os
import time

import torch

from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation

NETWORKS = {"mini (embedded)": "u2netp", "tiny": "swin_v1_t", "large": "swin_v1_l"}


def measure(backbone: str, size: int, runs: int) -> tuple[float, float, float]:
    """(millions of parameters, wall seconds, CPU seconds) of one frame; the first run is not counted."""
    torch.manual_seed(0)
    network = BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone(backbone)).eval()
    network = network.to(memory_format=torch.channels_last)
    pixels = torch.rand(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(pixels)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(runs):
            network(pixels)
    seconds = (time.perf_counter() - wall) / runs, (time.process_time() - cpu) / runs
    return network.num_parameters() / 1e6, *seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"| network at {options.size}², float32 | M parameters | s a frame | CPU-s a frame |")
    print("| --- | --- | --- | --- |")
    for name, backbone in NETWORKS.items():
        size, wall, cpu = measure(backbone, options.size, options.runs)
        print(f"| {name} | {size:.1f} | {wall:.2f} | {cpu:.2f} |", flush=True)


if __name__ == "__main__":
    main()

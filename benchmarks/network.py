"""Seconds per frame of the networks at 512x512 on this machine's CPU, random weights (speed does not depend on them).

python -m benchmarks.network
"""

from __future__ import annotations

import argparse
import os
import time

import torch

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.tables import NETWORK
from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation

NETWORKS = {"mini (embedded)": "u2netp", "tiny": "swin_v1_t", "large": "swin_v1_l"}


def measure(name: str, size: int, runs: int) -> Row:
    """Millions of parameters, wall and CPU seconds of one frame; the first run is not counted."""
    torch.manual_seed(0)
    network = BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone(NETWORKS[name])).eval()
    network = network.to(memory_format=torch.channels_last)
    pixels = torch.rand(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(pixels)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(runs):
            network(pixels)
    return {
        "network": name,
        "parameters_m": network.num_parameters() / 1e6,
        "wall_s": (time.perf_counter() - wall) / runs,
        "cpu_s": (time.process_time() - cpu) / runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    add_out(parser, "network")
    given = parser.parse_args()
    machine = Machine.here()
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"{given.size}x{given.size}, float32\n\n{NETWORK.head}")
    rows = []
    for name in NETWORKS:
        rows.append(measure(name, given.size, given.runs))
        print(NETWORK.line(rows[-1]), flush=True)
    options = {"size": given.size, "dtype": "float32", "runs": given.runs}
    Figures("network", options, machine, rows).save(given.out)


if __name__ == "__main__":
    main()

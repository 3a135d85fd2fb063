"""Trains the small checkpoint: `python -m training.train` downloads, prepares, trains, evaluates and writes it.

An interrupted run goes on from `training/work/state.pt`. The same seed, number of threads and steps give the same run;
a run that is ended by `--minutes` depends on the computer's speed.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from training import composite, evaluate, labels, losses, sources
from training.average import Average, new_model, with_blended_backbone, write_checkpoint
from training.convert import backbone_state, convert
from training.data import Samples
from training.teacher import load_teacher

SEED = 2026
STATE = sources.WORK / "state.pt"
SAVE_EVERY_S = 180.0
BACKBONE_SHARE = 0.6  # of the trained weights in the backbone that is written; the rest is the original


@dataclass(frozen=True)
class Phase:
    """`share` is this phase's part of the minutes; `whole` says whether the backbone learns as well.

    `real` is the part of real pictures in a batch. The last phase has more of them: composites teach outlines, but
    also that everything with an outline is a subject.
    """

    name: str
    size: int
    batch: int
    steps: int
    rate: float
    whole: bool
    share: float
    real: float


PHASES = (
    Phase("decoder", 192, batch=8, steps=1500, rate=1.5e-3, whole=False, share=0.46, real=0.25),
    Phase("everything", 256, batch=8, steps=400, rate=1e-4, whole=True, share=0.375, real=0.25),
    Phase("settle", 256, batch=8, steps=160, rate=5e-5, whole=True, share=0.165, real=0.5),
)


@dataclass
class Run:
    """Everything that a resumed run needs, and how it is stored."""

    model: Any = field(default_factory=new_model)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))
    phase: int = 0
    step: int = 0
    seconds: float = 0.0
    optimizer: torch.optim.Optimizer | None = None

    def __post_init__(self) -> None:
        self.average = Average(self.model)

    def start_phase(self, index: int) -> None:
        """Fresh optimiser; in the first phase the backbone only looks on."""
        phase = PHASES[index]
        self.phase = index
        self.model.bb.requires_grad_(phase.whole)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=phase.rate, weight_decay=1e-2)

    def save(self) -> None:
        assert self.optimizer is not None
        state = {
            "phase": self.phase,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch": torch.get_rng_state(),
        }
        partial = STATE.with_suffix(".part")
        torch.save(state, partial)
        partial.rename(STATE)

    def load(self) -> None:
        state = torch.load(STATE, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.start_phase(state["phase"])
        assert self.optimizer is not None
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch"])


def rate_factor(progress: float) -> float:
    """Short warm-up, then half a cosine down to two per cent."""
    return min(1.0, progress / 0.03 + 0.05) * (
        0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    )


def train_phase(run: Run, samples: Samples, minutes: float) -> None:
    """Until the steps are done or this phase's time is over, whichever comes first."""
    phase = PHASES[run.phase]
    assert run.optimizer is not None
    limit = phase.share * minutes * 60
    began, saved = time.monotonic() - run.seconds, time.monotonic()
    run.model.train()
    shown = 0.0
    while run.step < phase.steps and run.seconds < limit:
        # The rate follows whichever of the two bounds is nearer, so that it always ends low.
        progress = max(run.step / phase.steps, run.seconds / limit)
        for group in run.optimizer.param_groups:
            group["lr"] = phase.rate * rate_factor(progress)
        images, mattes = samples.batch(phase.batch, phase.size, phase.real)
        out = run.model(images.contiguous(memory_format=torch.channels_last), side_outputs=True)
        loss = losses.total(out.logits, out.side_logits, mattes)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 5.0)
        run.optimizer.step()
        run.average.update(run.model)
        run.step += 1
        run.seconds = time.monotonic() - began
        shown = 0.95 * shown + 0.05 * loss.item() if shown else loss.item()
        if run.step % 25 == 0:
            speed = run.step * phase.batch / run.seconds
            print(f"{phase.name} {run.step} loss {shown:.3f} {speed:.1f}/s {run.seconds:.0f} s", flush=True)
        if time.monotonic() - saved > SAVE_EVERY_S:
            run.save()
            write_checkpoint(run.average.model)
            saved = time.monotonic()


def train(samples: Samples, weights: dict[str, torch.Tensor], minutes: float) -> Run:
    torch.manual_seed(SEED)
    run = Run(rng=samples.rng)
    if STATE.exists():
        run.load()
    else:
        run.model.bb.load_state_dict(backbone_state(weights))
        run.average = Average(run.model)
        run.start_phase(0)
    run.model.to(memory_format=torch.channels_last)
    while True:
        train_phase(run, samples, minutes)
        run.save()
        print(f"wrote {write_checkpoint(run.average.model):,} bytes", flush=True)
        if run.phase + 1 == len(PHASES):
            return run
        run.step, run.seconds = 0, 0.0
        run.start_phase(run.phase + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=55.0, help="training time, preparation not counted")
    parser.add_argument("--composites", type=int, default=6000, help="pre-rendered training pictures")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sources.download()
    weights = convert(sources.SOURCES / "u2netp.onnx")
    labels.prepare(load_teacher(weights))
    shards = composite.prepare(options.composites, workers=options.threads)
    composite.prepare(composite.SHARD, held_out=True, workers=options.threads)
    samples = Samples(shards, np.random.default_rng(SEED))
    run = train(samples, weights, options.minutes)
    final = with_blended_backbone(run.average.model, backbone_state(weights), BACKBONE_SHARE)
    print(f"wrote {write_checkpoint(final):,} bytes, backbone blended", flush=True)
    evaluate.report(final, load_teacher(weights))


if __name__ == "__main__":
    main()

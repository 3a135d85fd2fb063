"""Limits the chunks in flight by what they weigh, and by what segmenters and decoders can use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serve_app.fal import Variant
from serve_app.runner.pool import Claimant, Pool
from serve_app.settings import Settings

ASSURED = 2  # chunks of each job: one is computed while the next is prepared


@dataclass(frozen=True, slots=True)
class Places:
    """The pools that a job draws from, and its place among the other jobs there.

    memory: bytes of the object store, from decoding until the piece is written.
    ahead: chunks whose frames no segmenter has yet.
    segmenting: chunks at the segmenters.
    """

    claimant: Claimant
    memory: Pool
    ahead: Pool
    segmenting: Pool


class Capacity:
    """What the jobs of a runner may have in flight at once.

    The memory is one budget for all variants, and each runner takes an equal part of it, as it cannot see the others'
    chunks. Each segmenter replica gets as many chunks as autoscaling aims at (`scale.target`), every second one of
    several another one: chunks of one length end together, and then not all replicas wait for their next. A chunk is
    sent to one only when its frames are decoded and a place is free, so that the order among jobs is decided as late as
    possible. Ahead of the segmenters are as many chunks again, and those that the decoders work on: no segmenter waits
    if decoding is fast enough. Finished cutouts that wait for an encoder are limited by memory alone.
    """

    def __init__(self, settings: Settings) -> None:
        decoding = decoding_at_once(settings)
        self._memory = Pool(settings.runner.max_object_bytes // settings.runner.replicas, ASSURED)
        self._segmenting = {variant: Pool(_segmenting_at_once(settings, variant)) for variant in Variant}
        self._ahead = {
            variant: Pool(_segmenting_at_once(settings, variant) + decoding, ASSURED) for variant in Variant
        }

    @contextmanager
    def places(self, variant: Variant, priority: int, created_at: float) -> Iterator[Places]:
        """Let a job take part for the duration of the context."""
        claimant = Claimant(priority, created_at)
        places = Places(claimant, self._memory, self._ahead[variant], self._segmenting[variant])
        try:
            yield places
        finally:
            for pool in (places.memory, places.ahead, places.segmenting):
                pool.forget(claimant)


def decoding_at_once(settings: Settings) -> int:
    """The chunks that the decoders can read at once."""
    return settings.decoder.scale.max_replicas * settings.decoder.scale.max_ongoing


def _segmenting_at_once(settings: Settings, variant: Variant) -> int:
    """The chunks that are sent to the segmenters of a variant."""
    scale = settings.segmenter_for(variant).scale
    return math.ceil(scale.max_replicas * scale.target) + scale.max_replicas // 2

"""What a run will take, before anything starts: images, steps, operations, memory, disk, hours.

Everything is counted: images from label files (or the published numbers), operations and
activations from the network itself (:mod:`vigorlib.cost`), the rest from shapes. Only hours rest on
assumptions, and those are part of the plan.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vigorlib import cost, footprint
from vigorlib import device as devices
from vigorlib.dataset import Protocol, Vigor
from vigorlib.images import LOADER_PROCESSES
from vigorlib.recipes import Profile, Recipe
from vigorlib.training import Stage, mixed_precision, stages

DECODE_S = (0.035, 0.017)
"""Core-seconds to decode and resize a 2048x1024 JPEG and a 640x640 PNG (AMD EPYC of 2021)."""

GPUS: dict[str, tuple[float, str]] = {
    "H100 SXM": (989.0, "bfloat16"),
    "A100": (312.0, "bfloat16"),
    "RTX 4090": (165.0, "bfloat16"),
    "T4": (65.0, "float16"),
}
"""Peak TFLOP/s of dense matrix products from the makers' data sheets, and in what precision."""


@dataclass(frozen=True)
class Counts:
    """Queries Q and tiles N of a subset."""

    queries: int
    tiles: int


PUBLISHED: dict[tuple[str, str], Counts] = {
    ("same-area", "train"): Counts(52_609, 90_618),
    ("same-area", "test"): Counts(52_605, 90_618),
    ("cross-area", "train"): Counts(51_520, 44_055),
    ("cross-area", "test"): Counts(53_694, 46_563),
}
"""VIGOR's own numbers."""


@dataclass(frozen=True)
class Work:
    """One kind of work: optimiser steps (0: none), images through the network, operations."""

    name: str
    steps: int
    panoramas: int
    tiles: int
    flops: float


@dataclass(frozen=True)
class Plan:
    """All of it, as data. precision: the one that memory was counted for."""

    recipe: str
    profile: str
    protocol: str
    precision: str
    source: str
    train: Counts
    test: Counts
    parameters: int
    dimension: int
    forward: cost.Flops
    work: tuple[Work, ...]
    parts: tuple[footprint.Part, ...]
    in_memory: bool
    assumptions: tuple[str, ...]

    @property
    def flops(self) -> float:
        return sum(entry.flops for entry in self.work)

    @property
    def steps(self) -> int:
        return sum(entry.steps for entry in self.work)

    def bytes(self, where: str, when: str = "") -> int:
        """Sum of the parts of a place that a phase needs (all phases' if none is named)."""
        return sum(p.bytes for p in self.parts if p.where == where and when in (p.when, ""))

    def hours(self, tflops: float, utilisation: float) -> float:
        """On hardware of a peak of ``tflops``, a share of which is achieved."""
        return self.flops / (tflops * 1e12 * utilisation) / 3600

    @property
    def decoding_core_hours(self) -> float:
        """To decode every image as often as it is used (once for profiles that keep the pixels)."""
        if self.in_memory:
            counts: Any = [(c.queries, c.tiles) for c in (self.train, self.test)]
        else:
            counts = [(entry.panoramas, entry.tiles) for entry in self.work]
        seconds = sum(p * DECODE_S[0] + t * DECODE_S[1] for p, t in counts)
        return seconds / 3600

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the sums."""
        places = [(p.where, p.when) for p in self.parts]
        return {
            **dataclasses.asdict(self),
            "steps": self.steps,
            "flops": self.flops,
            "bytes": {" ".join(key).strip(): self.bytes(*key) for key in dict.fromkeys(places)},
            "decoding_core_hours": self.decoding_core_hours,
        }


def counts_of(root: Path | None, profile: Profile, protocol: Protocol) -> dict[str, Counts]:
    """Of ``train`` and ``test``: from the label files under ``root``, or VIGOR's published ones."""
    if (protocol, "train") not in PUBLISHED:
        raise ValueError(f"unknown protocol {protocol!r}: expected 'same-area' or 'cross-area'")
    if root is None:
        return {subset: PUBLISHED[protocol, subset] for subset in ("train", "test")}
    found = {}
    for subset in ("train", "test"):
        data = Vigor(root, protocol, subset, labels=profile.labels)  # type: ignore[arg-type]
        found[subset] = Counts(len(data), len(data.tiles))
    return found


def make_plan(
    recipe: Recipe,
    profile: Profile,
    protocol: Protocol = "same-area",
    root: Path | None = None,
    precision: str = "bfloat16",
) -> Plan:
    """The plan of a run. root: a VIGOR folder (its label files do); None: VIGOR's own numbers.

    precision: ``float32``, ``bfloat16`` or ``float16``, what memory is counted for.
    """
    counts = counts_of(root, profile, protocol)
    train, test = counts["train"], counts["test"]
    network = cost.skeleton(recipe, profile)
    forward = cost.forward_flops(network, profile)
    trained = stages(recipe, profile, protocol)
    work = [_training(stage, train, profile, forward) for stage in trained]
    epochs = sum(stage.epochs for stage in trained)
    work += _watching(epochs, test, profile, forward)
    if recipe.mining:
        work.append(_mining(epochs, train, profile, network.dimension))
    work += _evaluation(test, forward, network.dimension)
    return Plan(
        recipe=recipe.name,
        profile=profile.name,
        protocol=protocol,
        precision=precision,
        source=f"label files in {root}" if root else "VIGOR's published numbers",
        train=train,
        test=test,
        parameters=footprint.parameters(network),
        dimension=network.dimension,
        forward=forward,
        work=tuple(work),
        parts=(
            *footprint.device_parts(recipe, profile, trained, precision),
            *footprint.other_memory(recipe, profile, train, test, network),
            *footprint.disk(recipe, profile, protocol, train, test, network),
        ),
        in_memory=profile.in_memory,
        assumptions=assumptions(profile, precision),
    )


# -- this machine ----------------------------------------------------------------------------


def require_fit(plan: Plan, device: str) -> None:
    """Raise :class:`vigorlib.device.NotEnoughMemory` if training would not fit; see ``pick``."""
    picked = devices.pick(device)
    needed = plan.bytes("device", "training")
    if picked.type == "cpu":
        needed += plan.bytes("host", "training")
    devices.require(needed, picked, f"training {plan.recipe} in profile {plan.profile}")


def measure_here(
    recipe: Recipe, profile: Profile, protocol: str, batch: int, steps: int, device: str
) -> tuple[cost.Measured, int]:
    """Real steps of the last stage on this machine, and the bytes that were planned for them.

    batch: pairs a step; 0 takes the profile's, halved until a step fits.
    """
    picked = devices.pick(device)
    precision = _precision(profile, picked)
    last = stages(recipe, profile, protocol)[-1]
    stage = dataclasses.replace(last, batch=batch or profile.batch)
    if not batch:
        available = devices.available_bytes(picked)
        stage = footprint.fitting(recipe, profile, stage, precision, available)
    needed = footprint.needed_bytes(recipe, profile, stage, precision)
    devices.require(needed, picked, f"a step of {stage.batch} pairs")
    return cost.measure(recipe, profile, stage, precision, picked, steps), needed


def _precision(profile: Profile, device: torch.device) -> str:
    """The profile's, on this device; ``auto`` on the CPU of a machine with a GPU means float32."""
    if profile.precision == "auto" and device.type == "cpu" and torch.cuda.is_available():
        return "float32"
    words = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
    return words[mixed_precision(profile.precision)]


# -- work ------------------------------------------------------------------------------------


def _training(stage: Stage, train: Counts, profile: Profile, forward: cost.Flops) -> Work:
    """The second stage keeps the step count of the first: queries // the profile's batch."""
    steps = stage.epochs * (train.queries // profile.batch)
    pairs = steps * stage.batch
    flops = steps * forward.step(stage, profile.checkpoint_activations)
    tiles = pairs * cost.tiles_a_pair(stage)
    return Work(f"{stage.name}: {stage.epochs} epochs", steps, pairs, tiles, flops)


def _watching(epochs: int, test: Counts, profile: Profile, forward: cost.Flops) -> list[Work]:
    watched = min(profile.watch_queries, test.queries)
    queries, tiles = epochs * watched, epochs * min(4 * watched, test.tiles)
    flops = queries * forward.panorama + tiles * forward.tile
    return [Work("watching after each epoch", 0, queries, tiles, flops)]


def _mining(epochs: int, train: Counts, profile: Profile, dimension: int) -> Work:
    refreshes = max(epochs - profile.mining_from_epoch, 0)
    products = train.queries * min(profile.pool_tiles, train.tiles)
    return Work(f"mining: {refreshes} refreshes", 0, 0, 0, 2 * refreshes * products * dimension)


def _evaluation(test: Counts, forward: cost.Flops, dimension: int) -> list[Work]:
    flops = test.queries * (forward.panorama + forward.offset) + test.tiles * forward.tile
    ranking = 2 * test.queries * test.tiles * dimension
    return [
        Work("evaluation: descriptors", 0, test.queries, test.tiles, flops),
        Work("evaluation: ranks", 0, 0, 0, ranking),
    ]


# -- assumptions ----------------------------------------------------------------------------


def assumptions(profile: Profile, precision: str) -> tuple[str, ...]:
    """What the numbers rest on, in sentences."""
    passes = "a forward pass of the same cost more (checkpointing)"
    extra = f", and {passes}" if profile.checkpoint_activations else ""
    return (
        f"operations: a backward pass counts as two forward passes{extra}; losses, optimiser and "
        "pooling count nothing",
        f"memory: one process, {precision}, weights and Adam in float32; the framework's own "
        "memory (about 0.5 GB, on a GPU as well) and convolution workspaces come on top",
        "hours: the network alone at the stated share of the peak; with k processes divide by k",
        f"decoding: {1000 * DECODE_S[0]:.0f} ms of one core a panorama and "
        f"{1000 * DECODE_S[1]:.0f} ms a tile, beside the network in {LOADER_PROCESSES} processes: "
        "the longer of the two counts",
        "watching and mining are upper bounds: tiles shared by watched queries and tiles that are "
        "nobody's positive are counted",
    )

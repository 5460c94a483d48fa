"""What a run holds: memory on the device and beside it, files on disk, part by part, in bytes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vigorlib import cost, products
from vigorlib.model import CrossViewNet
from vigorlib.recipes import Profile, Recipe
from vigorlib.training import Stage

if TYPE_CHECKING:
    from vigorlib.plan import Counts

FLOAT_BYTES, INDEX_BYTES = 4, 8


@dataclass(frozen=True)
class Part:
    """Bytes of one thing. where: ``device``, ``host`` or ``disk``; when: the phase that needs it."""

    name: str
    bytes: int
    where: str
    when: str = ""


def parameters(network: CrossViewNet) -> int:
    """Trained numbers; what two branches share counts once."""
    return sum(p.numel() for p in network.parameters())


def device_parts(
    recipe: Recipe, profile: Profile, trained: list[Stage], precision: str
) -> list[Part]:
    """What training holds on the device, in the stage that needs most."""
    size = parameters(cost.skeleton(recipe, profile)) * FLOAT_BYTES
    needs = {stage: cost.activations(recipe, profile, stage, precision) for stage in trained}
    stage, kept = max(needs.items(), key=lambda item: item[1].kept + item[1].recomputed)
    images = cost.random_batch_bytes(profile, stage)
    parts = {
        "parameters": size,
        "gradients": size,
        "optimiser state (two moments)": 2 * size,
        f"activations ({stage.name} stage, {stage.batch} pairs)": kept.kept,
        "activations of the largest segment, recomputed": kept.recomputed,
        "gradients on their way (twice the largest activation)": 2 * kept.largest,
        "batch of images": images,
    }
    return [Part(name, size, "device", "training") for name, size in parts.items() if size]


def needed_bytes(recipe: Recipe, profile: Profile, stage: Stage, precision: str) -> int:
    """On the device, for steps of one stage."""
    return sum(part.bytes for part in device_parts(recipe, profile, [stage], precision))


def fitting(
    recipe: Recipe, profile: Profile, stage: Stage, precision: str, available: int | None
) -> Stage:
    """The stage at its batch, halved until a step fits into the available bytes (or is two pairs)."""
    while available is not None and stage.batch > 2:
        if needed_bytes(recipe, profile, stage, precision) <= available:
            break
        stage = dataclasses.replace(stage, batch=max(stage.batch // 2, 2))
    return stage


def other_memory(
    recipe: Recipe, profile: Profile, train: Counts, test: Counts, network: CrossViewNet
) -> list[Part]:
    row = network.dimension * FLOAT_BYTES
    weights = parameters(network) * FLOAT_BYTES
    descriptors = (test.queries + 3 * test.tiles) * row
    parts = [
        Part("parameters", weights, "device", "evaluation"),
        Part("descriptors (Q + 3 N: copies while joining)", descriptors, "device", "evaluation"),
    ]
    if recipe.mining:
        sample = min(profile.pool_tiles, train.tiles)
        block = products.rows_at_once(sample) * sample * FLOAT_BYTES
        refresh = 3 * (sample * row + block) // 2  # in single and in half precision
        parts += [
            Part("mining pool (Q x D and N x D)", _pool(train, row), "host", "training"),
            Part("hard examples (Q x K)", _hard(train, profile), "host", "training"),
            Part("refresh of the mining pool", refresh, "device", "mining"),
        ]
    return parts


def _pool(train: Counts, row: int) -> int:
    return (train.queries + train.tiles) * row


def _hard(train: Counts, profile: Profile) -> int:
    return train.queries * min(profile.pool_hard, train.tiles) * INDEX_BYTES


def disk(
    recipe: Recipe,
    profile: Profile,
    protocol: str,
    train: Counts,
    test: Counts,
    network: CrossViewNet,
) -> list[Part]:
    weights = parameters(network) * FLOAT_BYTES
    checkpoint = 3 * weights  # the network and Adam's two moments
    if recipe.mining:
        checkpoint += _pool(train, network.dimension * FLOAT_BYTES) + _hard(train, profile)
    tiles = train.tiles if protocol == "same-area" else train.tiles + test.tiles
    cache = (train.queries + test.queries) * _pixels(profile.panorama_px)
    cache += tiles * _pixels(profile.tile_px)
    when = "always" if profile.in_memory else "optional"
    return [
        Part("two checkpoints, while training", 2 * checkpoint, "disk", "training"),
        Part("network", weights, "disk", "always"),
        Part("results of each query (before compression)", test.queries * 64 * 8, "disk", "always"),
        Part("cache of resized images", cache, "disk", when),
    ]


def _pixels(size: tuple[int, int]) -> int:
    return 3 * size[0] * size[1]

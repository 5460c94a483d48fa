"""Recipes say what is trained, profiles at what size. Both are data; neither is a branch in the code.

A backbone, loss weight or aggregator of your own is a new recipe::

    mine = dataclasses.replace(get_recipe("vigor"), name="mine", backbone="convnext_atto")
    run = runs.load_or_train(mine, "mini")
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Recipe:
    """What is trained. Defaults are VIGOR's own.

    backbone: a name of :data:`vigorlib.model.BACKBONES` or of timm (profiles may replace it by a
    narrow relative); aggregator: ``safa``, ``average``, ``gem`` (global pooling and a linear layer
    shared by both views) or ``flatten`` (the report's); heads: of SAFA or flatten.
    hybrid: a second stage that adds losses of semi-positives and offset; without it the triplet
    loss is trained for the epochs of both stages, so that all rows see as many pairs.
    alpha, include_diagonal: of the soft-margin triplet loss.
    semi_positives: what the second stage makes of them: similarity ratios that follow the ``iou``
    or the ``distance``, ``positive`` or ``negative`` examples, or ``ignored``.
    offset: ``regression``, ``classification`` on a grid of offset_cells^2, or ``none``.
    iou_weight, offset_weight: in place of the profile's.
    mining: part of each batch (mined_share) from the pool of hard examples, from the profile's
    epoch on. pool_share: of the candidate tiles that are ranked; fresh_pool: describe everything
    again at each refresh instead of keeping what training saw.
    training_share: of the training queries, as many steps as with all. orientation: ``unknown``
    rolls every panorama, in training at random, in testing each by a fixed angle.
    restart: the second stage begins with the first learning rate and a fresh optimiser.
    skip_epochs: left out of the first stage.
    """

    name: str
    title: str
    backbone: str = "vgg16"
    aggregator: str = "safa"
    heads: int = 8
    mining: bool = True
    hybrid: bool = True
    alpha: float = 10.0
    include_diagonal: bool = False
    semi_positives: str = "iou"
    offset: str = "regression"
    offset_cells: int = 10
    iou_weight: float | None = None
    offset_weight: float | None = None
    mined_share: float = 0.5
    pool_share: float = 1.0
    fresh_pool: bool = False
    training_share: float = 1.0
    orientation: str = "known"
    restart: bool = False
    skip_epochs: int = 0


@dataclass(frozen=True)
class Profile:
    """At what size. Defaults are those of the released code (see ``full``).

    tile_px, panorama_px: (height, width) of the network's input. pretrained: start from ImageNet
    weights, which ``weights`` names: ``torchvision`` (or timm's) or ``caffe``, the original's
    VGG-16 (``python -m data_prep.official weights`` prepares them). pool: a 2x2 max-pool after the
    backbone, for aggregators other than ``average``. backbones: replacements by narrower relatives.
    dimension: of descriptors that do not come from SAFA. epochs: (triplet, hybrid) for each
    protocol. batch, hybrid_batch: pairs a step; the second stage keeps the step count of the first.
    pool_tiles, pool_hard: tiles ranked at each refresh of the mining pool and how many are kept.
    iou_weight, offset_weight: of the second stage.
    precision: ``float32``, ``bfloat16``, ``float16`` or ``auto`` (the fastest the hardware has).
    checkpoint_activations: recompute the backbones' activations in the backward pass: less memory,
    about a third more time, the same losses. compile: both branches through ``torch.compile``.
    """

    name: str
    tile_px: tuple[int, int] = (320, 320)
    panorama_px: tuple[int, int] = (320, 640)
    pretrained: bool = True
    pool: bool = True
    backbones: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dimension: int = 4096
    offset_hidden: int = 512
    offset_rescale: bool = False
    epochs: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: MappingProxyType({"same-area": (30, 15), "cross-area": (11, 10)})
    )
    batch: int = 14
    hybrid_batch: int = 10
    optimizer: str = "adam"
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    schedule: str = "exponential"
    mining_from_epoch: int = 2
    pool_tiles: int = 40_000
    pool_hard: int = 100
    iou_weight: float = 0.1
    iou_floor: float | None = None
    offset_weight: float = 0.01
    precision: str = "auto"
    in_memory: bool = False
    checkpoint_steps: int = 1000
    watch_queries: int = 500
    labels: str = "corrected"
    weights: str = "torchvision"
    checkpoint_activations: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        counts = ("batch", "hybrid_batch", "checkpoint_steps", "watch_queries", "dimension")
        wrong = [name for name in counts if getattr(self, name) < 1]
        for name in ("tile_px", "panorama_px"):
            size = getattr(self, name)
            wrong += [] if len(size) == 2 and min(size) > 0 else [name]
        if wrong:
            given = ", ".join(f"{name} {getattr(self, name)!r}" for name in wrong)
            raise ValueError(
                f"profile {self.name!r} has {given}: expected counts of at least 1 and sizes "
                "(height, width) in pixels"
            )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("siamese", "Siamese-VGG", aggregator="average", mining=False, hybrid=False),
        Recipe("safa", "SAFA", mining=False, hybrid=False),
        Recipe("safa-mining", "SAFA + mining", hybrid=False),
        Recipe("vigor", "VIGOR"),
        Recipe("vigor-resnet", "VIGOR, ResNet", backbone="resnet18"),
        Recipe("vigor-flatten", "ResNet, flatten head", "resnet18", "flatten", heads=4),
    )
}


def _variant(name: str, title: str, **changes: object) -> None:
    """VIGOR with one thing changed, for an ablation (see :mod:`vigorlib.ablations`)."""
    recipe = dataclasses.replace(RECIPES["vigor"], name=f"vigor-{name}", title=title, **changes)  # type: ignore[arg-type]
    RECIPES[recipe.name] = recipe


_variant("semi-ignored", "semi-positives ignored", semi_positives="ignored")
_variant("semi-positive", "semi-positives as positives", semi_positives="positive")
_variant("semi-negative", "semi-positives as negatives", semi_positives="negative")
_variant("semi-distance", "ratio of distances", semi_positives="distance")
_variant("no-offset", "no offset", offset="none")
_variant("offset-classes", "offset as a class", offset="classification")
_variant("no-mining", "no mining", mining=False)
_variant("small-pool", "a quarter of the pool", pool_share=0.25)
_variant("mined-most", "three quarters mined", mined_share=0.75)
_variant("heads-1", "1 head", heads=1)
_variant("heads-2", "2 heads", heads=2)
_variant("heads-4", "4 heads", heads=4)
_variant("average", "global average", aggregator="average")
_variant("gem", "GeM", aggregator="gem")
_variant("regnet", "RegNetY", backbone="regnety_160")
_variant("alpha-5", "alpha 5", alpha=5.0)
_variant("alpha-20", "alpha 20", alpha=20.0)
_variant("any-heading", "heading unknown", orientation="unknown")
_variant("quarter-data", "a quarter of the training queries", training_share=0.25)
_variant("paper-weights", "weights 1 as in the paper", iou_weight=1.0, offset_weight=1.0)
_variant("restart", "learning rate starts anew", restart=True)
_variant("fresh-pool", "pool described afresh", fresh_pool=True)
_variant("epoch-less", "one triplet epoch less", skip_epochs=1)

MAIN_ROWS = ("siamese", "safa", "safa-mining", "vigor")
"""The four rows of the paper's main table."""

_NARROW = MappingProxyType(
    {"vgg16": "vgg16-narrow", "resnet18": "resnet-narrow", "regnety_160": "regnet-narrow"}
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("full"),
        Profile(
            "mini",
            tile_px=(64, 64),
            panorama_px=(64, 128),
            pretrained=False,
            pool=False,
            backbones=_NARROW,
            dimension=1024,
            offset_rescale=True,
            epochs=MappingProxyType({"same-area": (2, 5), "cross-area": (2, 2)}),
            batch=16,
            hybrid_batch=16,
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.01,
            schedule="cosine",
            pool_tiles=40_000,
            pool_hard=30,
            iou_floor=0.1,
            offset_weight=0.2,
            in_memory=True,
            checkpoint_steps=500,
            watch_queries=300,
        ),
        Profile(
            "smoke",
            tile_px=(32, 32),
            panorama_px=(32, 64),
            pretrained=False,
            pool=False,
            backbones=MappingProxyType({**_NARROW, "vgg16": "vgg16-tiny"}),
            dimension=64,
            offset_hidden=32,
            offset_rescale=True,
            epochs=MappingProxyType({"same-area": (2, 1), "cross-area": (2, 1)}),
            batch=6,
            hybrid_batch=4,
            optimizer="adamw",
            learning_rate=3e-3,
            weight_decay=0.01,
            schedule="cosine",
            mining_from_epoch=1,
            pool_hard=10,
            iou_floor=0.1,
            offset_weight=0.1,
            precision="float32",
            in_memory=True,
            checkpoint_steps=5,
            watch_queries=20,
        ),
        Profile("full-original", weights="caffe", labels="original"),
    )
}
"""``full-original`` is ``full`` from the released code's own weights and label files."""
PROFILES["mini-short"] = dataclasses.replace(
    PROFILES["mini"],
    name="mini-short",
    epochs=MappingProxyType({"same-area": (1, 2), "cross-area": (1, 1)}),
    mining_from_epoch=1,
)
"""For ablations: the city and network of ``mini``, three epochs instead of seven."""

LATER_SETTINGS: dict[str, object] = {
    "weights": "torchvision",
    "checkpoint_activations": False,
    "compile": False,
    "semi_positives": "iou",
    "offset": "regression",
    "offset_cells": 10,
    "iou_weight": None,
    "offset_weight": None,
    "mined_share": 0.5,
    "pool_share": 1.0,
    "fresh_pool": False,
    "training_share": 1.0,
    "orientation": "known",
    "restart": False,
    "skip_epochs": 0,
}
"""Settings younger than recorded runs, with the value all earlier runs had: at it they do not count
in a run's name, so that a new setting renames no run."""
FIRST_REPLACEMENTS = ("vgg16", "resnet18")
"""Only these of a profile's backbones count in a run's name; later ones are named by their layers."""


def get_recipe(recipe: Recipe | str) -> Recipe:
    """A recipe by name; a recipe as it is."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(
            f"unknown recipe {recipe!r}: expected one of {', '.join(RECIPES)}, or a Recipe of your "
            "own (`python -m vigorlib recipes` explains each)"
        )
    return RECIPES[recipe]


def get_profile(profile: Profile | str) -> Profile:
    """A profile by name; a profile as it is."""
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}: expected one of {', '.join(PROFILES)}")
    return PROFILES[profile]


def as_dict(settings: Recipe | Profile) -> dict[str, object]:
    """Plain dictionary for a record."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return {key: dict(v) if isinstance(v, Mapping) else v for key, v in values.items()}


def settings_hash(recipe: Recipe, profile: Profile, architecture: str = "") -> str:
    """Eight characters that change with every setting that could change the result.

    architecture: a description of the network's layers, for backbones change behind their names.
    """
    settings = [as_dict(recipe), as_dict(profile)]
    for entry in settings:
        entry.pop("title", None)
        if isinstance(replacements := entry.get("backbones"), dict):
            kept = {k: v for k, v in replacements.items() if k in FIRST_REPLACEMENTS}
            entry["backbones"] = kept
        for name, value in LATER_SETTINGS.items():
            if entry.get(name) == value:
                del entry[name]
    text = json.dumps(settings, sort_keys=True, default=list) + architecture
    return hashlib.sha256(text.encode()).hexdigest()[:8]

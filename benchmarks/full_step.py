"""One step of the paper's own size on this machine: precision, checkpointing, the convolutions alone.

VGG-16, panoramas of 640 x 320, tiles of 320 x 320, with semi-positives. "The convolutions alone" are
the backbones' forward and backward on the same images and nothing else: what no arrangement of the
loop can undercut.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from measure import Row, Work, compare, run_alone
from torch import Tensor

from vigorlib import cost, device, model
from vigorlib.recipes import Profile, Recipe, get_profile, get_recipe
from vigorlib.training import PairLoss, _optimizer, stages


def measured(quick: bool = False) -> list[Row]:
    recipe, batch = get_recipe("vigor"), 2 if quick else 4
    profile = dataclasses.replace(
        get_profile("smoke" if quick else "full"), batch=batch, hybrid_batch=batch, pretrained=False
    )
    checkpointed = dataclasses.replace(profile, checkpoint_activations=True)
    candidates: dict[str, Work] = {
        "the convolutions alone, float32": convolutions(recipe, profile, torch.float32),
        "float32": step_of(recipe, profile, "float32"),
        "float32, activations recomputed": step_of(recipe, checkpointed, "float32"),
    }
    if device.has_bfloat16():
        candidates |= {
            "the convolutions alone, bfloat16": convolutions(recipe, profile, torch.bfloat16),
            "bfloat16": step_of(recipe, profile, "bfloat16"),
        }
    case = f"{batch} pairs, {profile.name}"
    return compare("full step", case, candidates, next(iter(candidates)), repeats=2 if quick else 5)


def _batch(recipe: Recipe, profile: Profile) -> dict[str, Tensor]:
    return cost.random_batch(profile, stages(recipe, profile, "same-area")[-1])


def step_of(recipe: Recipe, profile: Profile, precision: str) -> Work:
    """Forward, backward and optimiser of the whole network."""

    @functools.cache  # made when first needed: not all networks at once in memory
    def parts() -> tuple[PairLoss, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = model.build(recipe, profile, imagenet=False).to(memory_format=torch.channels_last)
        stage = stages(recipe, profile, "same-area")[-1]
        return PairLoss(network.train(), stage, recipe, None), _optimizer(network, profile)

    batch = _batch(recipe, profile)

    def step() -> None:
        loss_of, optimizer = parts()
        with cost._autocast("cpu", precision):
            loss, _, _ = loss_of(**batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def convolutions(
    recipe: Recipe,
    profile: Profile,
    kind: torch.dtype,
    layout: torch.memory_format = torch.channels_last,
) -> Work:
    torch.manual_seed(0)
    network = model.build(recipe, profile, imagenet=False).to(kind)
    network = network.to(memory_format=layout).train()
    batch = {
        name: values.contiguous(memory_format=layout)
        for name, values in _batch(recipe, profile).items()
        if values.ndim == 4
    }

    def work() -> None:
        network.zero_grad(set_to_none=True)
        for branch, images in ((network.ground, "panoramas"), (network.satellite, "tiles")):
            branch.backbone(batch[images].to(kind)).sum().backward()

    return work


if __name__ == "__main__":
    run_alone(measured)

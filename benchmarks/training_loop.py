"""An epoch of training against its arithmetic: the same batches through forward, backward, optimiser.

What the loop adds: drawing batches without overlap, reading them, mining, the pool, logging, the
schedule, checkpoints. The embedded city, one thread, as each of two runs side by side has.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import torch
from measure import Row, Work, compare, run_alone
from torch import Tensor

from vigorlib import cost, device, model, runs
from vigorlib.dataset import data_folder
from vigorlib.recipes import Profile, Recipe, get_profile, get_recipe
from vigorlib.training import PairLoss, Trainer, _optimizer

REPEATS = 5


def measured(quick: bool = False) -> list[Row]:
    recipe, profile = get_recipe("vigor"), get_profile("smoke" if quick else "mini")
    precision = "bfloat16" if device.has_bfloat16() else "float32"  # what "auto" takes
    one_epoch = dataclasses.replace(
        profile, epochs={"same-area": (0, 1)}, mining_from_epoch=0, precision=precision
    )
    train = runs.photographs(data_folder(profile.name), profile, "same-area", "train")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = _compared(recipe, one_epoch, train, Path(folder))
    finally:
        torch.set_num_threads(threads)
    return rows


def _compared(recipe: Recipe, profile: Profile, train: runs.Photographs, folder: Path) -> list[Row]:
    trainers = [
        Trainer(
            _network(recipe, profile), train.data, train.panoramas, train.tiles, recipe, profile,
            folder=folder / str(k), progress=False,
        )
        for k in range(REPEATS + 1)
    ]  # fmt: skip
    batches = _batches(trainers[0])
    left = iter(trainers)
    bare = f"forward, backward, optimiser, {profile.precision}"
    candidates: dict[str, Work] = {
        bare: lambda: _bare(recipe, profile, trainers[0], batches),
        f"the whole loop, {profile.precision}": lambda: next(left).train(),
    }
    if profile.precision != "float32":
        wide = dataclasses.replace(profile, precision="float32")
        candidates["forward, backward, optimiser, float32"] = lambda: _bare(
            recipe, wide, trainers[0], batches
        )
    case = f"{len(batches)} steps of {profile.hybrid_batch} pairs, {profile.name}"
    rows = compare("training loop", case, candidates, bare, REPEATS, memory=False)
    pairs = len(batches) * profile.hybrid_batch
    return [
        dataclasses.replace(row, extra={"pairs a second of CPU": round(pairs / row.cpu_s, 1)})
        for row in rows
    ]


def _network(recipe: Recipe, profile: Profile) -> model.CrossViewNet:
    torch.manual_seed(0)
    return model.build(recipe, profile)


def _batches(trainer: Trainer) -> list[dict[str, Tensor]]:
    """What the loop will draw, read beforehand."""
    drawn = trainer._draw(trainer.stages[-1], 0, refresh=True)
    return [drawn[step] for step in range(len(drawn))]


def _bare(
    recipe: Recipe, profile: Profile, trainer: Trainer, batches: list[dict[str, Tensor]]
) -> None:
    network = _network(recipe, profile).to(memory_format=torch.channels_last).train()
    step = PairLoss(network, trainer.stages[-1], recipe, profile.iou_floor)
    optimizer = _optimizer(network, profile)
    for batch in batches:
        with cost._autocast("cpu", profile.precision):
            loss, _, _ = step(**batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    run_alone(measured)

"""Two cores, two runs: one after the other with both cores each, or side by side with one each.

What the grid does with a machine (``python -m vigorlib grid --jobs``). Steps of profile mini on
random images, in processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from measure import Row, Work, compare, cpu_of_children, run_alone

from vigorlib import cost, model
from vigorlib.recipes import get_profile, get_recipe
from vigorlib.training import PairLoss, _optimizer, stages


def measured(quick: bool = False) -> list[Row]:
    cores, steps = 2, 4 if quick else 60
    candidates: dict[str, Work] = {
        "one after the other, both cores each": lambda: one_after_the_other(2, steps, cores),
        "side by side, one core each": lambda: side_by_side(2, steps, 1),
    }
    return compare(
        "two runs", f"2 runs of {steps} steps of mini", candidates, next(iter(candidates)),
        1 if quick else 5, memory=False, warm=False, cpu_clock=cpu_of_children,
    )  # fmt: skip


def one_after_the_other(runs: int, steps: int, threads: int) -> None:
    for _ in range(runs):
        side_by_side(1, steps, threads)


def side_by_side(runs: int, steps: int, threads: int) -> None:
    """Processes of their own, together."""
    command = [sys.executable, __file__, "--steps", str(steps), str(threads)]
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    running = [subprocess.Popen(command, env=place) for _ in range(runs)]
    if any([process.wait() for process in running]):
        raise RuntimeError("a run of the benchmark failed")


def _train(steps: int, threads: int) -> None:
    torch.set_num_threads(threads)
    recipe, profile = get_recipe("vigor"), get_profile("mini")
    stage = stages(recipe, profile, "same-area")[-1]
    network = model.build(recipe, profile).to(memory_format=torch.channels_last).train()
    loss_of = PairLoss(network, stage, recipe, profile.iou_floor)
    optimizer = _optimizer(network, profile)
    batch = cost.random_batch(profile, stage)
    for _ in range(steps):
        loss, _, _ = loss_of(**batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    if "--steps" in sys.argv:
        _train(*map(int, sys.argv[2:]))
    else:
        run_alone(measured)

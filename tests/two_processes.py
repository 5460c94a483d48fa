"""What each of two processes does in ``test_processes.py``: ``python two_processes.py TASK OUT CITY``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vigorlib import model, processes, runs, training
from vigorlib.descriptors import describe
from vigorlib.recipes import get_profile

SMOKE = get_profile("smoke")


def untrained() -> model.CrossViewNet:
    torch.manual_seed(0)
    return model.build("vigor", SMOKE).eval()


def descriptors(photos: runs.Photographs) -> list[torch.Tensor]:
    """Of a gallery whose last batch is short, and of fewer images than there are processes."""
    branch = untrained().describe_satellite
    some = describe(branch, photos.tiles, np.array([5]), batch=3)
    every = describe(branch, photos.tiles, batch=7)
    return [some.values, some.lengths, every.values, every.lengths]


def evaluation(photos: runs.Photographs) -> Any:
    return runs.evaluate(untrained(), photos, SMOKE, progress=False)


def normalised(images: torch.Tensor, norm: nn.BatchNorm2d, part: slice) -> list[torch.Tensor]:
    """Output and gradients of batch normalisation on a slice, and what it remembers.

    The loss is that of the whole batch, as in training: gathered, and averaged by DDP.
    """
    torch.manual_seed(1)
    nn.init.normal_(norm.weight)
    weights = torch.randn(images.shape, dtype=images.dtype)
    mine = images[part].clone().requires_grad_()
    out = norm(mine)
    (processes.gathered(out) * weights).sum().div(processes.count()).backward()
    gradients = [parameter.grad for parameter in (norm.weight, norm.bias)]
    if processes.count() > 1:
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)
    return [out.detach(), mine.grad, *gradients, norm.running_mean, norm.running_var]


def error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "none"


def units(out: Path, city: Path) -> None:
    """Each function of :mod:`vigorlib.processes` once; what came out is left in OUT."""
    device = processes.join()
    index = processes.index()

    def refuse() -> None:
        raise ValueError(f"process {index} refuses")

    photos = processes.main_first(
        lambda: runs.photographs(city, SMOKE, "same-area", "test", progress=False)
    )
    norm = nn.Sequential(nn.BatchNorm2d(3)).double()
    processes.share_batch_norm(norm, device)
    images = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    results = {
        "descriptors": descriptors(photos),
        "evaluation": evaluation(photos),
        "normalised": normalised(images, norm[0], processes.share(6)),
        "from_main": processes.from_main(lambda: f"process {index} says"),
        "everyones": processes.everyones(index),
        "dealt": processes.dealt(5),
        "share": processes.share(5),
        "error": error_of(lambda: processes.from_main(refuse)),
        "norm_error": error_of(
            lambda: processes.share_batch_norm(nn.Sequential(nn.BatchNorm1d(3)), device)
        ),
    }
    order = out / "order"
    processes.main_first(lambda: order.open("a").write(str(index)))
    torch.save(results, out / f"{index}.pt")
    processes.leave()


def dying(out: Path, city: Path) -> None:
    """Training in which the second process fails in step 17 while the first waits for it."""
    step = training.Trainer._train_step

    def failing(trainer: training.Trainer, *arguments: Any) -> None:
        if trainer.state.step == 17 and processes.index() == 1:
            raise RuntimeError("this process lost its GPU")
        step(trainer, *arguments)

    training.Trainer._train_step = failing  # type: ignore[method-assign]
    runs.load_or_train("vigor", "smoke", data_root=city, progress=False)


if __name__ == "__main__":
    task, out, city = sys.argv[1:]
    assert os.environ["WORLD_SIZE"] == "2"
    {"units": units, "dying": dying}[task](Path(out), Path(city))

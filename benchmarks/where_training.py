"""Where the time of training goes: an epoch's first steps under torch's profiler, one thread, by step.

The share of each kind of operation in the loop of :class:`vigorlib.training.Trainer`, everything
included; "all else" is Python, drawing and reading batches.
"""

from __future__ import annotations

import dataclasses
import time

import torch
from measure import Row, run_alone
from torch.profiler import ProfilerActivity, profile

from vigorlib import model, runs
from vigorlib.dataset import data_folder
from vigorlib.recipes import get_profile, get_recipe
from vigorlib.training import Trainer

KINDS = {
    "convolutions, forward": ("mkldnn_convolution", "thnn_conv", "slow_conv"),
    "convolutions, backward": ("convolution_backward",),
    "batch norm": ("batch_norm",),
    "ReLU and pooling": ("relu", "threshold", "clamp_min", "max_pool"),
    "products (SAFA, head, loss)": ("mm", "bmm", "addmm", "baddbmm"),
    "optimiser": ("foreach", "fused_adam", "adamw"),
    "copies and types": ("copy_", "_to_copy", "contiguous", "clone"),
}
SMALL = "small operations"


def measured(quick: bool = False) -> list[Row]:
    """A row a kind; the ratio is its share of the whole."""
    recipe, size = get_recipe("vigor"), get_profile("smoke" if quick else "mini")
    size = dataclasses.replace(size, epochs={"same-area": (0, 1)}, precision="float32")
    train = runs.photographs(data_folder(size.name), size, "same-area", "train", progress=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        trainer = Trainer(
            model.build(recipe, size), train.data, train.panoramas, train.tiles, recipe, size,
            progress=False,
        )  # fmt: skip
        with profile(activities=[ProfilerActivity.CPU]) as watched:
            spent = time.perf_counter()
            trainer.train()
            spent = time.perf_counter() - spent
    finally:
        torch.set_num_threads(threads)
    return _rows(watched, spent, f"{trainer.total} steps of {size.name}, one thread")


def _rows(watched: profile, whole: float, case: str) -> list[Row]:
    seconds = dict.fromkeys([*KINDS, SMALL, "all else"], 0.0)
    for event in watched.key_averages():
        if (kind := _kind(event.key)) is not None:
            seconds[kind] += event.self_cpu_time_total / 1e6
    seconds["all else"] = max(whole - sum(seconds.values()), 0.0)
    return [
        Row("profile of training", case, kind, s, s, s / whole, s / whole, 1, None, {})
        for kind, s in seconds.items()
    ]


def _kind(operation: str) -> str | None:
    """The first kind whose name the operation bears: ``aten::addmm`` is a product. None: of Python."""
    name = operation.removeprefix("aten::").lower()
    for kind, parts in KINDS.items():
        if kind.startswith("products"):
            if name in parts:
                return kind
        elif any(part in name for part in parts):
            return kind
    return SMALL if operation.startswith("aten::") else None


if __name__ == "__main__":
    run_alone(measured)

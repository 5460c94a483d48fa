"""How a training step grows: with the pictures' size, with the batch, with processes side by side.

Picture sizes: the paper's network, two pairs, forward and backward. Batches: the network of profile
mini. Processes: runs of their own, a thread each, as the grid starts them; what counts is how many
steps all of them do in a second, starting included.
"""

from __future__ import annotations

import dataclasses
import functools

import two_runs
from full_step import step_of
from measure import Row, Work, compare, cpu_of_children, run_alone

from vigorlib.recipes import get_profile, get_recipe

TILES_PX = (64, 128, 192, 256)
BATCHES = (4, 8, 16, 32, 64)
PROCESSES = (1, 2, 4)


def measured(quick: bool = False) -> list[Row]:
    return [*_sizes(quick), *_batches(quick), *_processes(quick)]


def _sizes(quick: bool) -> list[Row]:
    """A pair is two tiles and a panorama, as high as a tile and twice as wide."""
    recipe, sizes = get_recipe("vigor"), TILES_PX[:2] if quick else TILES_PX
    candidates: dict[str, Work] = {}
    for size in sizes:
        profile = dataclasses.replace(
            get_profile("smoke" if quick else "full"), batch=2, hybrid_batch=2, pretrained=False,
            tile_px=(size, size), panorama_px=(size, 2 * size),
        )  # fmt: skip
        candidates[f"{size} px"] = step_of(recipe, profile, "float32")
    extra = {name: {"pixels": 4 * size**2} for name, size in zip(candidates, sizes, strict=True)}
    return compare("picture size", "two pairs", candidates, next(iter(candidates)), extra=extra)


def _batches(quick: bool) -> list[Row]:
    recipe, base = get_recipe("vigor"), get_profile("smoke" if quick else "mini")
    candidates: dict[str, Work] = {}
    for batch in BATCHES[:2] if quick else BATCHES:
        profile = dataclasses.replace(base, batch=batch, hybrid_batch=batch)
        candidates[f"{batch} pairs"] = step_of(recipe, profile, "float32")
    extra = {name: {"pairs": int(name.split()[0])} for name in candidates}
    return compare("batch", base.name, candidates, next(iter(candidates)), extra=extra)


def _processes(quick: bool) -> list[Row]:
    steps, counts = (2, (1,)) if quick else (40, PROCESSES)
    candidates: dict[str, Work] = {
        str(count): functools.partial(two_runs.side_by_side, count, steps, threads=1)
        for count in counts
    }
    extra = {str(count): {"steps": count * steps} for count in counts}
    return compare(
        "processes", f"{steps} steps of mini each", candidates, "1", 1 if quick else 5,
        memory=False, warm=False, extra=extra, cpu_clock=cpu_of_children,
    )  # fmt: skip


if __name__ == "__main__":
    run_alone(measured)

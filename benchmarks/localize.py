"""How long it takes to localize: opening, describing, searching, for galleries of a given size.

    python benchmarks/localize.py                         # 90,618 tiles, 4,096 numbers each: VIGOR
    python benchmarks/localize.py --tiles 6400 --dimension 1280
    python benchmarks/localize.py --recipe vigor --profile mini

Descriptors are random directions where no recipe is given: the time does not depend on what they
say. Median and slowest of the searches; the first one after opening, which reads the file, is apart.
Nothing else should run beside it: the search is as fast as memory can be read.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer

from vigorlib import runs
from vigorlib.localize import Localizer
from vigorlib.nearby import best_among
from vigorlib.retrieval import best, checked


def timed(act: Callable[[], object], times: int) -> dict[str, float]:
    """Milliseconds: the first, the median and the slowest of the others."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        act()
        taken.append(1e3 * (time.perf_counter() - start))
    first, *others = taken
    return {
        "first_ms": round(first, 1),
        "median_ms": round(float(np.median(others)), 1),
        "slowest_ms": round(max(others), 1),
    }


def made_up(path: Path, tiles: int, dimension: int) -> None:
    """Random unit vectors in a file."""
    shape, generator = (tiles, dimension), torch.Generator().manual_seed(0)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, tiles, 4096):
        rows = torch.randn(len(out[start : start + 4096]), dimension, generator=generator)
        out[start : start + 4096] = F.normalize(rows, dim=1).numpy()
    out.flush()


def search_times(folder: Path, tiles: int, dimension: int, k: int, times: int) -> dict[str, object]:
    """Open a file of descriptors as a localizer does, then search it."""
    made_up(folder / "gallery.npy", tiles, dimension)
    start = time.perf_counter()
    gallery = checked(torch.from_numpy(np.load(folder / "gallery.npy", mmap_mode="c")), "gallery")
    opened = time.perf_counter() - start
    query = F.normalize(torch.randn(1, dimension), dim=1)
    near = np.sort(np.random.default_rng(0).choice(tiles, min(tiles, 300), replace=False))
    return {
        "open_and_check_s": round(opened, 2),
        "search": timed(lambda: best(query, gallery, k), times),
        "near_a_fix_300_tiles": timed(lambda: best_among(query, gallery, near, k), times),
    }


def whole_times(recipe: str, profile: str, data_root: str, k: int, times: int) -> dict[str, object]:
    """Open a run's localizer twice, then ask for queries of the test set."""
    run = runs.load_or_train(recipe, profile, data_root=data_root)
    openings = []
    for _ in range(2):
        start = time.perf_counter()
        localizer = Localizer.from_run(run, data_root)
        openings.append(round(time.perf_counter() - start, 2))
    assert localizer.data is not None
    order = iter(np.random.default_rng(0).integers(0, len(localizer.data), times + 1).tolist())
    return {
        "tiles": len(localizer),
        "open_first_s": openings[0],
        "open_again_s": openings[1],
        "locate_query": timed(lambda: localizer.locate_query(next(order), k), times),
    }


def main(
    tiles: int = 90_618,
    dimension: int = 4096,
    k: int = 50,
    times: int = 20,
    threads: Annotated[int, typer.Option(help="0: as torch has it")] = 0,
    recipe: Annotated[str, typer.Option(help="the whole way with this recipe's run")] = "",
    profile: str = "mini",
    data_root: str = "",
) -> None:
    """Measure and print JSON."""
    if threads:
        torch.set_num_threads(threads)
    if recipe:
        times_of = whole_times(recipe, profile, data_root, k, times)
    else:
        with tempfile.TemporaryDirectory() as folder:
            times_of = search_times(Path(folder), tiles, dimension, k, times)
            times_of = {"tiles": tiles, "dimension": dimension, **times_of}
    load = [round(value, 1) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    print(json.dumps({"threads": torch.get_num_threads(), "load": load, **times_of}, indent=1))


if __name__ == "__main__":
    typer.run(main)

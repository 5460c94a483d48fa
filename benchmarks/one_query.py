"""One question to VIGOR's gallery: the 50 best of 90,618 tiles, from memory maps; and 64 at once.

The floor is the float32 product alone, which has to read every byte of the gallery. How often the
kind "quick" misses a tile depends on the descriptors: it is measured on the embedded city's, enlarged
to the same number of tiles (see :func:`vigorlib.search_cost.enlarged`).
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import torch
from measure import Row, Work, compare, run_alone

from vigorlib import index
from vigorlib.index import Kind

KINDS: tuple[Kind, ...] = ("exact", "quarter", "quick")
K = 50


def measured(quick: bool = False) -> list[Row]:
    tiles, width = (600, 64) if quick else (90_618, 4096)
    with tempfile.TemporaryDirectory() as folder:
        satellite = made_up.tiles(tiles, width)
        ground, _ = made_up.queries_near(satellite, 64)
        index.build(satellite, "exact").save(Path(folder) / "exact")
        del satellite  # from here on it lies on disk
        return _rows(ground, Path(folder), f"{K} of {tiles:,}")


def _rows(ground: Any, folder: Path, case: str) -> list[Row]:
    satellite = np.load(folder / "exact", mmap_mode="c")
    for kind in KINDS[1:]:
        index.build(satellite, kind).save(folder / kind)
    opened, seconds = {}, {}
    for kind in KINDS:
        started = time.perf_counter()
        opened[kind] = index.load(folder / kind)
        seconds[kind] = {"opens in": f"{1e3 * (time.perf_counter() - started):.1f} ms"}
    one = ground[:1]
    np.save(folder / "half.npy", satellite.astype(np.float16))
    half = torch.from_numpy(np.load(folder / "half.npy", mmap_mode="c"))
    candidates: dict[str, Work] = {
        "product, NumPy": lambda: one @ satellite.T,
        "product, torch": lambda: torch.from_numpy(one) @ torch.from_numpy(satellite).T,
        "product, torch float16": lambda: half @ torch.from_numpy(one[0]).half(),
        **{kind: lambda g=gallery: g.search(one, K) for kind, gallery in opened.items()},
    }
    if importlib.util.find_spec("faiss"):
        flat = index.build(satellite, "flat")
        candidates["flat (FAISS)"] = lambda: flat.search(one, K)
    floor = ("product, NumPy", "product, torch")
    rows = compare("one query", case, candidates, floor, repeats=15, extra=seconds)
    batch: dict[str, Work] = {
        "product, NumPy": lambda: ground @ satellite.T,
        "product, torch": lambda: torch.from_numpy(ground) @ torch.from_numpy(satellite).T,
        **{kind: lambda g=gallery: g.search(ground, K) for kind, gallery in opened.items()},
    }
    return rows + compare("64 queries", case, batch, floor)


if __name__ == "__main__":
    run_alone(measured)

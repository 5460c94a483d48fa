"""Exact ranks, both hit rates and the ten best tiles, against the bare product and older ways.

python benchmarks/ranks.py --quick
"""

from __future__ import annotations

from unittest import mock

import made_up
import numpy as np
import torch
from measure import Row, Work, compare, run_alone
from numpy.typing import NDArray

from vigorlib import retrieval
from vigorlib.device import processor_has_bfloat16
from vigorlib.products import rows_at_once

CASES = ((5_000, 9_000), (2_000, 90_618))
PRODUCTS = ("product, NumPy", "product, torch")
WITHOUT = "ours, float32 only"


def measured(quick: bool = False) -> list[Row]:
    """Rows of all cases."""
    rows = []
    for queries, tiles in ((60, 500),) if quick else CASES:
        satellite = made_up.tiles(tiles, 64 if quick else 4096)
        ground, references = made_up.queries_near(satellite, queries)
        candidates: dict[str, Work] = {
            **products(ground, satellite),
            **both_ways(lambda g=ground, s=satellite, r=references: retrieval.ranks(g, s, r)),
        }
        if queries * tiles < 5e7:  # 16 bytes a pair: elsewhere they would not fit
            candidates["whole matrix, float32"] = lambda g=ground, s=satellite, r=references: (
                in_single_precision(g, s, r)
            )
            wide = ground.astype(np.float64), satellite.astype(np.float64)
            candidates["as released, float64"] = lambda w=wide, r=references: as_released(*w, r)
        rows += compare("ranks", f"{queries:,} x {tiles:,}", candidates, PRODUCTS)
    return rows


def products(ground: NDArray[np.float32], satellite: NDArray[np.float32]) -> dict[str, Work]:
    """The float32 product alone, in blocks of the same size, by either library."""
    rows = rows_at_once(len(satellite))
    parts = [slice(start, start + rows) for start in range(0, len(ground), rows)]
    tensors = torch.from_numpy(ground), torch.from_numpy(satellite)

    def by_numpy() -> None:
        for part in parts:
            ground[part] @ satellite.T

    def by_torch() -> None:
        for part in parts:
            tensors[0][part] @ tensors[1].T

    ways = dict(zip(PRODUCTS, (by_numpy, by_torch), strict=True))
    if processor_has_bfloat16():
        low = tensors[0].bfloat16(), tensors[1].bfloat16()
        ways["bfloat16 product, inexact"] = lambda: [low[0][part] @ low[1].T for part in parts]
    return ways


def both_ways(work: Work) -> dict[str, Work]:
    """Ours, and where the processor multiplies bfloat16 also as it runs where none does."""

    def without() -> None:
        with mock.patch("vigorlib.products.processor_has_bfloat16", return_value=False):
            work()

    return {"ours": work} | ({WITHOUT: without} if processor_has_bfloat16() else {})


def as_released(
    ground: NDArray[np.float64], satellite: NDArray[np.float64], references: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """What the released evaluation does, said again: two matrices of all distances in float64."""
    query = np.arange(len(ground))
    distance = 2.0 - 2.0 * (ground @ satellite.T)
    own = distance[query, references[:, 0]]
    rank = np.array([(row < least).sum() for row, least in zip(distance, own, strict=True)])
    masked = distance.copy()
    masked[query[:, None], references[:, 1:]] = np.inf
    hit = np.array([(row < least).sum() == 0 for row, least in zip(masked, own, strict=True)])
    top = np.array([np.argpartition(row, 10)[:10] for row in distance])
    return rank, hit, top


def in_single_precision(
    ground: NDArray[np.float32], satellite: NDArray[np.float32], references: NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """One matrix of all similarities in float32, counted row by row, as later repositories do."""
    similarity = torch.from_numpy(ground) @ torch.from_numpy(satellite).T
    own = similarity[torch.arange(len(ground)), torch.from_numpy(references[:, 0])]
    rank = torch.stack([(row > least).sum() for row, least in zip(similarity, own, strict=True)])
    return rank, similarity.topk(10, dim=1).indices


if __name__ == "__main__":
    run_alone(measured)

"""The mining refresh: the 100 tiles of 40,000 most similar to each query, its own four left out.

An epoch has far more queries than are measured here. Collecting the drawn tiles is done once for all
of them, and the second case, with four times the queries, shows what that is worth.
"""

from __future__ import annotations

import made_up
import numpy as np
import torch
from measure import Row, Work, compare, run_alone
from numpy.typing import NDArray
from ranks import PRODUCTS, both_ways, products

from vigorlib.mining import Pool

TOP_K = "chunks and top-k, float32"


def measured(quick: bool = False) -> list[Row]:
    queries, tiles, width, keep = (64, 500, 64, 20) if quick else (2_000, 40_000, 4096, 100)
    satellite = made_up.tiles(tiles, width)
    ground, references = made_up.queries_near(satellite, 4 * queries)

    def refresh(count: int) -> dict[str, Work]:
        pool = Pool(1, 1, width)
        pool.ground, pool.satellite = map(torch.from_numpy, (ground[:count], satellite))
        drawn = np.arange(tiles)
        return both_ways(
            lambda: pool.hardest(references[:count], drawn, keep, np.random.default_rng(0), tiles)
        )

    few = ground[:queries], satellite, references[:queries], keep
    candidates: dict[str, Work] = {
        **products(*few[:2]),
        **refresh(queries),
        TOP_K: lambda: in_chunks(*few),
        "as released, float64": lambda: as_released(*few),
    }
    same = same_sets(candidates["ours"](), in_chunks(*few))
    rows = compare(
        "mining", f"{keep} of {tiles:,} for {queries:,}", candidates, PRODUCTS,
        extra={TOP_K: {"same sets": f"{same:.2%}"}},
    )  # fmt: skip
    product = PRODUCTS[0]
    many = {product: products(ground, satellite)[product], **refresh(len(ground))}
    return rows + compare("mining", f"{keep} of {tiles:,} for {len(ground):,}", many, product)


def as_released(
    ground: NDArray[np.float32],
    satellite: NDArray[np.float32],
    references: NDArray[np.int64],
    keep: int,
    chunk: int = 500,
) -> NDArray[np.int64]:
    """The released refresh, said again: a float64 matrix, all of it sorted (in chunks, to fit)."""
    wide, hard = satellite.astype(np.float64), []
    for start in range(0, len(ground), chunk):
        rows = slice(start, start + chunk)
        distance = 2.0 - 2.0 * (ground[rows].astype(np.float64) @ wide.T)
        np.put_along_axis(distance, references[rows], np.inf, axis=1)
        hard.append(np.argsort(distance, axis=1)[:, :keep])
    return np.concatenate(hard)


def in_chunks(
    ground: NDArray[np.float32],
    satellite: NDArray[np.float32],
    references: NDArray[np.int64],
    keep: int,
    chunk: int = 2048,
) -> NDArray[np.int64]:
    """Product and top-k as they come, in float32."""
    hard = []
    for start in range(0, len(references), chunk):
        rows = slice(start, start + chunk)
        similarity = torch.from_numpy(ground[rows]) @ torch.from_numpy(satellite).T
        similarity.scatter_(1, torch.from_numpy(references[rows]), -torch.inf)
        hard.append(similarity.topk(keep, dim=1).indices.numpy())
    return np.concatenate(hard)


def same_sets(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Share of the queries with the same tiles in both."""
    return float((np.sort(a, axis=1) == np.sort(b, axis=1)).all(axis=1).mean())


if __name__ == "__main__":
    run_alone(measured)

"""The mining refresh: the 100 tiles of 40,000 most similar to each query, its own four left out.

An epoch has far more queries than are measured here. What is done once for all of them (collecting
the drawn tiles) is measured with a few queries, so that the price of a whole refresh follows.
"""

from __future__ import annotations

import made_up
import numpy as np
import torch
from measure import Row, Work, compare, run_alone
from numpy.typing import NDArray
from ranks import PRODUCTS, both_ways, products

from vigorlib.mining import Pool

FEW = 20
ONCE = f"ours, for {FEW} queries"


def measured(quick: bool = False) -> list[Row]:
    queries, tiles, width, keep = (64, 500, 64, 20) if quick else (2_000, 40_000, 4096, 100)
    satellite = made_up.tiles(tiles, width)
    ground, references = made_up.queries_near(satellite, queries)
    pool = Pool(1, 1, width)
    pool.ground, pool.satellite = torch.from_numpy(ground), torch.from_numpy(satellite)

    def ours() -> NDArray[np.int64]:
        rng = np.random.default_rng(0)
        return pool.hardest(references, np.arange(tiles), keep, rng, tiles)

    few = Pool(1, 1, width)
    few.ground, few.satellite = pool.ground[:FEW], pool.satellite

    def once() -> NDArray[np.int64]:
        rng = np.random.default_rng(0)
        return few.hardest(references[:FEW], np.arange(tiles), keep, rng, tiles)

    candidates: dict[str, Work] = {
        **products(ground, satellite),
        **both_ways(ours),
        ONCE: once,
        "chunks and top-k, float32": lambda: in_chunks(pool, references, keep),
        "as released, float64": lambda: as_released(ground, satellite, references, keep),
    }
    same = same_sets(ours(), in_chunks(pool, references, keep))
    extra = {
        "chunks and top-k, float32": {"same sets": f"{same:.2%}"},
        "ours": {"queries": queries},
        ONCE: {"queries": FEW},
    }
    case = f"{keep} of {tiles:,} for {queries:,}"
    return compare("mining", case, candidates, PRODUCTS, extra=extra)


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
    pool: Pool, references: NDArray[np.int64], keep: int, chunk: int = 2048
) -> NDArray[np.int64]:
    """Product and top-k as they come, in float32."""
    hard = []
    for start in range(0, len(references), chunk):
        rows = slice(start, start + chunk)
        similarity = pool.ground[rows] @ pool.satellite.T
        similarity.scatter_(1, torch.from_numpy(references[rows]), -torch.inf)
        hard.append(similarity.topk(keep, dim=1).indices.numpy())
    return np.concatenate(hard)


def same_sets(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Share of the queries with the same tiles in both."""
    return float((np.sort(a, axis=1) == np.sort(b, axis=1)).all(axis=1).mean())


if __name__ == "__main__":
    run_alone(measured)

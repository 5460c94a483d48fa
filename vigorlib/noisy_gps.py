"""Search around a noisy GPS fix: most of the gallery is out of question (VIGOR, section 4).

The query's position is disturbed by up to 100 m on each axis, evenly; the search looks at the tiles
whose centres lie within 200 m of that on each axis.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib.dataset import Vigor
from vigorlib.geometry import OFFICIAL_RADIUS_M
from vigorlib.retrieval import Indices, Ranking, checked, require_fitting

NOISE_M, REACH_M = 100.0, 200.0


def candidates(
    data: Vigor,
    rng: np.random.Generator,
    noise_m: float = NOISE_M,
    reach_m: float = REACH_M,
) -> list[Indices]:
    """For each query the tiles of its city near where a noisy GPS puts it: Q arrays of indices.

    Metres are north and east of the city's middle on a sphere: over a city that is exact to 0.1 %.
    """
    chosen: list[Indices] = [np.empty(0, dtype=np.int64)] * len(data)
    noise = rng.uniform(-noise_m, noise_m, (len(data), 2))
    for city in np.unique(data.queries.cities):
        tiles = np.flatnonzero(data.tiles.cities == city)
        queries = np.flatnonzero(data.queries.cities == city)
        middle = data.tiles.latlon[tiles].mean(axis=0)
        places = _metres(data.tiles.latlon[tiles], middle)
        fixes = _metres(data.queries.latlon[queries], middle) + noise[queries]
        for query, fix in zip(queries, fixes, strict=True):
            chosen[query] = tiles[(np.abs(places - fix) <= reach_m).all(axis=1)]
    return chosen


def ranks_among(
    ground: Tensor | NDArray[np.floating],
    satellite: Tensor | NDArray[np.floating],
    references: Indices,
    tiles: list[Indices],
) -> Ranking:
    """:func:`vigorlib.retrieval.ranks`, each query among its own ``tiles`` only, with k = 1.

    Raises ValueError when a query's positive is not among them.
    """
    queries, gallery = checked(ground, "ground"), checked(satellite, "satellite")
    references = np.asarray(references)
    require_fitting(queries, gallery, references, 1)
    rank, without = np.empty((2, len(queries)), dtype=np.int64)
    top, top_similarity = np.empty((len(queries), 1), dtype=np.int64), np.empty((len(queries), 1))
    for i, among in enumerate(tiles):
        place = {int(tile): k for k, tile in enumerate(among)}
        if (positive := int(references[i, 0])) not in place:
            raise ValueError(
                f"tile {positive}, the positive of query {i}, is not among its {len(among)} tiles: "
                "expected a reach that covers the noise and half a tile"
            )
        rows = gallery[torch.from_numpy(among).to(gallery.device)].double()
        similarity = (rows * queries[i].double()).sum(dim=1).cpu().numpy()
        better = similarity > similarity[place[positive]]
        semi = [place[int(tile)] for tile in references[i, 1:] if int(tile) in place]
        best = int(similarity.argmax())
        rank[i], without[i] = better.sum(), better.sum() - better[semi].sum()
        top[i], top_similarity[i] = among[best], similarity[best]
    return Ranking(rank, without, top, top_similarity)


def _metres(latlon: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) degrees -> [north, east] of ``middle`` in metres."""
    scale = OFFICIAL_RADIUS_M * np.array([1.0, np.cos(np.deg2rad(middle[0]))])
    return np.deg2rad(latlon - middle) * scale

"""Where the camera car stops, and which stops become queries.

A car drives every lane and takes a panorama about every 30 m. As VIGOR did, the collection is then
balanced: no tile keeps more than two panoramas that it is positive for. Half of a city's queries
train, half test, at random.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.city.place import Place
from data_prep.city.world import World

SPACING_M = (22.0, 34.0)
PER_TILE = 2


@dataclass(frozen=True)
class Queries:
    """Panoramas of one city. latlon: (Q, 2) degrees rounded as in the file names; references:
    (Q, 4) tile indices, positive first, the diagonal one last; train: (Q,) bool.
    collected_cover: (N,) whether a tile covers any panorama of the collection before balancing.
    """

    ids: list[str]
    latlon: NDArray[np.float64]
    references: NDArray[np.int64]
    train: NDArray[np.bool_]
    collected_cover: NDArray[np.bool_]


def sample_queries(world: World, place: Place, rng: np.random.Generator) -> Queries:
    """Drive, balance, split. Deterministic for a generator."""
    stops = np.round(place.to_latlon(_drive(world, rng)), 6)
    stops = stops[np.sort(np.unique(stops, axis=0, return_index=True)[1])]
    position = place.grid_position(stops)
    inside = ((position > 0) & (position < place.tiles - 1)).all(axis=1)
    stops, position = stops[inside], position[inside]
    references = covering_tiles(position, place.tiles)
    cover = np.zeros(place.tiles**2, dtype=bool)
    cover[references] = True
    keep = _balance(references[:, 0], rng)
    count = len(keep)
    train = np.zeros(count, dtype=bool)
    train[rng.permutation(count)[: (count + 1) // 2]] = True
    return Queries(_ids(count, rng), stops[keep], references[keep], train, cover)


def covering_tiles(position: NDArray[np.float64], tiles: int) -> NDArray[np.int64]:
    """(Q, 2) grid positions -> (Q, 4) tile indices: nearest, its two neighbours by distance, diagonal."""
    nearest = np.rint(position).astype(int)
    away = position - nearest
    step = np.where(away >= 0, 1, -1)
    # a query exactly on a tile's centre line: step inwards at the grid's border
    step = np.where((nearest + step < 0) | (nearest + step >= tiles), -step, step)
    beside_row = nearest + step * (1, 0)
    beside_column = nearest + step * (0, 1)
    row_first = np.abs(away[:, :1]) >= np.abs(away[:, 1:])
    second = np.where(row_first, beside_row, beside_column)
    third = np.where(row_first, beside_column, beside_row)
    block = np.stack([nearest, second, third, nearest + step], axis=1)  # (Q, 4, 2)
    return block @ np.array([tiles, 1])


def _drive(world: World, rng: np.random.Generator) -> NDArray[np.float64]:
    """Stops (S, 2) in metres along every lane, 22 to 34 m apart."""
    stops = []
    for lane in world.lanes():
        along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(lane, axis=0).T))])
        at = rng.uniform(0, SPACING_M[1])
        while at < along[-1]:
            stops.append([np.interp(at, along, lane[:, k]) for k in range(2)])
            at += rng.uniform(*SPACING_M)
    return np.array(stops).reshape(-1, 2)


def _balance(positives: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of panoramas to keep: at most PER_TILE for each positive tile, chosen at random."""
    order = rng.permutation(len(positives))
    seen: dict[int, int] = {}
    kept = []
    for i in order:
        tile = int(positives[i])
        if seen.get(tile, 0) < PER_TILE:
            seen[tile] = seen.get(tile, 0) + 1
            kept.append(i)
    return np.sort(np.array(kept, dtype=np.int64))


def _ids(count: int, rng: np.random.Generator) -> list[str]:
    """22 characters of base64url, as street-view panoramas are named; some begin with - or _."""
    raw = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    return [base64.urlsafe_b64encode(row.tobytes()).decode().rstrip("=") for row in raw]

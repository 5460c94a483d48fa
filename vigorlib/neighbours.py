"""Neighbours in space: the nearest panoramas, and whether like values lie side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigorlib import geometry
from vigorlib.dataset import Places

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def nearest(
    places: Places, among: Places, k: int = 1, itself: bool = True, chunk: int = 512
) -> tuple[Indices, Floats]:
    """The k nearest places of the same city, nearest first, and their distances in metres.

    Both (Q, k); -1 and infinity where a city has fewer. itself: with ``among`` the same places,
    whether a place is its own neighbour.
    """
    found = np.full((len(places), k), -1)
    for city in np.unique(places.cities):
        here, there = (np.flatnonzero(p.cities == city) for p in (places, among))
        size = min(k, len(there) - (not itself))
        middle = places.latlon[here].mean(axis=0)
        a, b = (_metres(p.latlon[i], middle) for p, i in ((places, here), (among, there)))
        for start in range(0, len(here) if size > 0 else 0, chunk):
            rows = np.arange(start, min(start + chunk, len(here)))
            apart = ((a[rows, None] - b) ** 2).sum(axis=-1)
            if not itself:
                apart[np.arange(len(rows)), rows] = np.inf
            found[here[rows], :size] = there[apart.argsort(axis=1, kind="stable")[:, :size]]
    metres = geometry.great_circle_m(
        places.lat_deg[:, None], places.lon_deg[:, None], among.lat_deg[found], among.lon_deg[found]
    )
    return found, np.where(found < 0, np.inf, metres)


@dataclass(frozen=True)
class Clustering:
    """observed: Moran's I of the values; shuffled: (P,) the same with values dealt out anew."""

    observed: float
    shuffled: Floats

    @property
    def p_value(self) -> float:
        """Share of deals, the true one among them, that cluster at least as much."""
        return float((1 + (self.shuffled >= self.observed).sum()) / (1 + len(self.shuffled)))


def clustering(
    values: Floats,
    places: Places,
    k: int = 8,
    permutations: int = 999,
    generator: np.random.Generator | None = None,
) -> Clustering:
    """Do like values lie side by side? Moran's I over the k nearest, against shuffled values.

    values: (Q,). They are compared with their city's mean and shuffled within their city, so a city
    that is hard as a whole does not count as a cluster. I is 1 where neighbours are alike, about 0
    where they have nothing to do with each other.
    """
    rng = generator or np.random.default_rng(0)
    neighbours, _ = nearest(places, places, k, itself=False)
    if (neighbours < 0).any():
        raise ValueError(f"a city has no {k} neighbours for each query: expected a smaller k")
    cities = [np.flatnonzero(places.cities == city) for city in np.unique(places.cities)]
    centred = np.asarray(values, dtype=float).copy()
    for here in cities:
        centred[here] -= centred[here].mean()
    if not centred.any():
        raise ValueError("all values of each city are equal: expected values that differ")

    def moran(x: Floats) -> float:
        return float((x * x[neighbours].mean(axis=1)).sum() / (x**2).sum())

    shuffled = np.empty(permutations)
    for i in range(permutations):
        dealt = np.empty_like(centred)
        for here in cities:
            dealt[here] = rng.permutation(centred[here])
        shuffled[i] = moran(dealt)
    return Clustering(moran(centred), shuffled)


def _metres(latlon: Floats, middle: Floats) -> Floats:
    """(N, 2) degrees -> [north, east] of ``middle`` in metres, exact enough to find neighbours."""
    scale = geometry.OFFICIAL_RADIUS_M * np.array([1.0, np.cos(np.deg2rad(middle[0]))])
    return np.deg2rad(latlon - middle) * scale

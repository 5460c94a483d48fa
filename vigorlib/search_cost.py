"""What a search costs: measured at the sizes at hand, and continued along a straight line.

For the question at which size of a gallery exact search becomes too slow or too large.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigorlib.index import Gallery
from vigorlib.retrieval import Indices

Descriptors = NDArray[np.float32]


def enlarged(satellite: Descriptors, size: int, seed: int = 0) -> Descriptors:
    """(size, D): the tiles, then made-up ones; fewer tiles where ``size`` is smaller.

    A made-up tile is a tile plus half the difference of two others, L2-normalised: it lies where
    tiles lie and is spread along their axes. Synthetic: no photograph has it.
    """
    tiles = np.asarray(satellite, dtype=np.float32)
    if size <= len(tiles):
        return tiles[:size]
    rng = np.random.default_rng(seed)
    a, b, c = rng.integers(0, len(tiles), (3, size - len(tiles)))
    made = np.concatenate([tiles, tiles[a]])
    for start in range(0, len(a), 4096):  # no second copy of a large gallery
        part = slice(start, start + 4096)
        rows = made[len(tiles) :][part]
        rows += 0.5 * (tiles[b[part]] - tiles[c[part]])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def agreement(tiles: Indices, exact: Indices, k: int = 1) -> float:
    """Share of the queries whose best tile by exact search is among the first k that were found.

    tiles, exact: (Q, >= k) and (Q, >= 1), best first.
    """
    if len(tiles) != len(exact) or tiles.shape[1] < k:
        raise ValueError(f"tiles are {tiles.shape}: expected ({len(exact)}, at least {k})")
    return float((tiles[:, :k] == exact[:, :1]).any(axis=1).mean())


def seconds_a_query(
    gallery: Gallery, ground: Descriptors, at_once: int = 1, k: int = 10, repeats: int = 5
) -> float:
    """Median over ``repeats`` searches of ``at_once`` queries each, after one that does not count."""
    if not 1 <= at_once <= len(ground):
        raise ValueError(f"at_once is {at_once}: expected 1 to {len(ground)}, the queries at hand")
    taken = []
    for turn in range(repeats + 1):
        queries = np.roll(ground, -turn * at_once, axis=0)[:at_once]
        started = time.perf_counter()
        gallery.search(queries, k)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:])) / at_once


@dataclass(frozen=True)
class Line:
    """A search takes ``fixed`` seconds and ``each`` for every operation (no less than none)."""

    fixed: float
    each: float

    def seconds(self, operations: float) -> float:
        return self.fixed + self.each * operations

    def reach(self, seconds: float) -> float:
        """Operations that can be done in that time."""
        return max(seconds - self.fixed, 0) / self.each


def fit_line(operations: Sequence[float], seconds: Sequence[float]) -> Line:
    """The line with the least squares of *relative* errors: a long search does not outweigh all."""
    work, taken = np.asarray(operations, dtype=float), np.asarray(seconds, dtype=float)
    if work.shape != taken.shape or work.ndim != 1 or len(work) < 2 or not (taken > 0).all():
        raise ValueError(
            f"{work.shape} operations and {taken.shape} seconds: expected two rows of at least two "
            "numbers, seconds above zero"
        )
    columns = np.stack([1 / taken, work / taken], axis=1)
    (fixed, each), *_ = np.linalg.lstsq(columns, np.ones(len(work)), rcond=None)
    if fixed < 0 or each <= 0:  # noise larger than what it hides
        fixed, each = 0.0, columns[:, 1].sum() / (columns[:, 1] ** 2).sum()
    return Line(float(fixed), float(each))

"""Descriptors for benchmarks: random directions, each query near its positive, as after training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float32]


def tiles(count: int, width: int = 4096, seed: int = 0) -> Descriptors:
    """(count, width) L2-normalised."""
    rng = np.random.default_rng(seed)
    made = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 4096):  # no second copy
        part = made[start : start + 4096]
        rng.standard_normal(out=part, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made


def queries_near(
    satellite: Descriptors, count: int, closeness: float = 0.5, seed: int = 1
) -> tuple[Descriptors, NDArray[np.int64]]:
    """(count, D) queries and (count, 4) references. closeness: cosine with the positive, about.

    The three semi-positives are tiles like any other.
    """
    rng = np.random.default_rng(seed)
    references = rng.integers(0, len(satellite), (count, 1)) + np.arange(4) * 7
    references %= len(satellite)
    ground = tiles(count, satellite.shape[1], seed + 1) * np.float32(np.sqrt(1 - closeness**2))
    ground += np.float32(closeness) * satellite[references[:, 0]]
    return ground / np.linalg.norm(ground, axis=1, keepdims=True), references

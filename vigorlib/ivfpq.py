"""IVF-PQ: what a compressed gallery is learned from and how. The search itself is FAISS's.

A tile's descriptor is rotated down to fewer numbers, assigned to one of several lists, and what is
left after its list's centre is cut into short pieces, of each of which one byte remains: the nearest
of 256 learned pieces. A query looks into a few lists and adds up table entries.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib.retrieval import Indices, checked

Values = Tensor | NDArray[np.floating]

PIECE_BYTES = 256 * 2**20
"""Descriptors are read in pieces of this size."""
TRAINING_BYTES = 512 * 2**20
CENTROIDS = 256
"""What one code byte can name."""
TILES_A_CENTROID = 40
"""FAISS's k-means warns below 39."""
NUMBER_BYTES = 8
"""FAISS keeps a tile's number beside its code."""


@dataclass(frozen=True)
class Settings:
    """lists: clusters that the gallery is divided into; probes: how many of them a query looks into;
    width: numbers that a descriptor is rotated down to; code_bytes: what is kept of them, one byte
    for width / code_bytes numbers."""

    lists: int
    probes: int
    width: int
    code_bytes: int

    def memory(self, size: int, width: int) -> int:
        """Bytes of N = ``size`` tiles of D = ``width`` numbers, and of what was learned for them."""
        learned = self.width * (self.lists + CENTROIDS + width) * 4
        return size * (self.code_bytes + NUMBER_BYTES) + learned

    def operations(self, size: int, width: int) -> float:
        """Multiply-adds and table look-ups a query: rotate it, choose lists, fill tables, add up."""
        before = self.width * (width + self.lists + CENTROIDS)
        return before + self.code_bytes * size * self.probes / self.lists


def default_settings(size: int, width: int) -> Settings:
    """Settings for N = ``size`` tiles of D = ``width`` numbers.

    FAISS's wiki, "Guidelines to choose an index": 4 to 16 sqrt(N) lists (here 4, the quickest to
    train), at most 64 code bytes, four numbers a byte. It leaves the probes to a measurement: an
    eighth of the lists is ours, where more hardly help (chapter 9).
    """
    code_bytes = max(min(64, width // 4), 1)
    lists = max(min(round(4 * math.sqrt(size)), size // TILES_A_CENTROID), 1)
    probes = min(max(lists // 8, 8), lists)
    return Settings(lists, probes, min(4 * code_bytes, width), code_bytes)


def train(satellite: Values, settings: Settings | None = None, seed: int = 0) -> Any:
    """FAISS's index without tiles, learned from a sample of at most TRAINING_BYTES.

    satellite: (N, D); only the sample is read. Raises ValueError for settings that do not fit.
    """
    size, width = shape(satellite)
    settings = settings or default_settings(size, width)
    _require_fitting(settings, size, width)
    faiss, rng = faiss_module(), np.random.default_rng(seed)
    room = max(TRAINING_BYTES // (4 * settings.width), settings.lists, CENTROIDS)
    rows = min(size, room, TILES_A_CENTROID * max(settings.lists, CENTROIDS))
    chosen = np.sort(rng.choice(size, rows, replace=False))
    rotation = _rotation(satellite, chosen, settings.width, rng)
    sample = np.concatenate([single(p) @ rotation.T for _, p in pieces(satellite, chosen)])

    lists = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(settings.width), settings.width, settings.lists, settings.code_bytes, 8,
        faiss.METRIC_INNER_PRODUCT,
    )  # fmt: skip
    for clustering in (lists.cp, lists.pq.cp):
        clustering.seed, clustering.niter = seed, 10  # FAISS's 25 for codes find no more
        clustering.max_points_per_centroid = TILES_A_CENTROID
        clustering.min_points_per_centroid = 1  # fewer are not worth a line on stderr
    lists.train(sample)
    lists.nprobe = settings.probes
    turn = faiss.LinearTransform(width, settings.width, False)
    faiss.copy_array_to_vector(rotation.ravel(), turn.A)
    turn.is_trained = True
    return faiss.IndexPreTransform(turn, lists)


def _rotation(
    satellite: Values, chosen: Indices, width: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(width, D) orthonormal rows that keep most of the descriptors' length.

    The main axes of the tiles (about the origin: similarities are not about the mean), turned at
    random, so that each code byte gets an equal share.
    """
    full = shape(satellite)[1]
    few = chosen[:: max(len(chosen) // (16 * full), 1)]  # enough for D axes
    moment = sum(single(p).T @ single(p) for _, p in pieces(satellite, few))
    _, axes = np.linalg.eigh(moment)
    turn, _ = np.linalg.qr(rng.normal(size=(width, width)))
    return np.ascontiguousarray(turn @ axes[:, -width:].T, dtype=np.float32)


def _require_fitting(settings: Settings, size: int, width: int) -> None:
    if size < CENTROIDS:
        raise ValueError(
            f"a gallery of {size} tiles is too small for ivfpq: expected at least {CENTROIDS}; "
            "search it with kind='exact'"
        )
    fits = (
        1 <= settings.probes <= settings.lists <= size
        and 1 <= settings.code_bytes <= settings.width <= width
        and settings.width % settings.code_bytes == 0
    )
    if not fits:
        raise ValueError(
            f"{settings} does not fit {size} tiles of {width} numbers: expected 1 <= probes <= "
            "lists <= tiles, width <= numbers, and code_bytes that divide width; see "
            "`ivfpq.default_settings`"
        )


# -- FAISS, and descriptors as it wants them -------------------------------------------------


def faiss_module() -> Any:
    """FAISS, with as many threads as torch."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError as error:
        raise RuntimeError(
            "FAISS is needed for the kinds flat and ivfpq: `pip install faiss-cpu`, or with the "
            "project `pip install '.[faiss]'`; kind='exact' does without it"
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def pieces(
    satellite: Values, rows: Indices | None = None, check: bool = True
) -> Iterator[tuple[int, Tensor]]:
    """Pieces of a gallery, or of some rows of it, that fit into memory, each with its first row.

    check: raise ValueError for descriptors that are not L2-normalised and finite.
    """
    width = shape(satellite)[1]
    count = len(satellite if rows is None else rows)
    step = max(PIECE_BYTES // (width * satellite[:1].itemsize), 1)
    for start in range(0, count, step):
        part = slice(start, start + step)
        values = satellite[part if rows is None else rows[part]]
        if isinstance(values, np.ndarray) and not values.flags.writeable:
            values = values.copy()  # torch shares memory only with what may be written
        if check:
            checked(values, "satellite" if not start else f"satellite from row {start}")
        yield start, values if isinstance(values, Tensor) else torch.from_numpy(values)


def single(values: Tensor) -> NDArray[np.float32]:
    """FAISS reads single precision only."""
    return np.ascontiguousarray(values.detach().float().cpu().numpy())


def shape(satellite: Values) -> tuple[int, int]:
    """(N, D); raises ValueError for anything else and for no tiles."""
    if satellite.ndim != 2 or not len(satellite):
        raise ValueError(
            f"satellite has shape {tuple(satellite.shape)}: expected (N, D) with at least one row"
        )
    rows, width = satellite.shape
    return rows, width

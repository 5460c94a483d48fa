"""Descriptors -> exact ranks and nearest tiles, streamed: no Q x N matrix ever exists.

Rows of similarities are computed in blocks, in the quickest precision there is
(:mod:`vigorlib.products`). Wherever two similarities are too close for that precision to tell apart,
both are computed again in float64, a pair at a time, always by the same sum
(:mod:`vigorlib.pairs`): ranks do not depend on block sizes, on the order of the gallery or on the
machine's matrix kernels, and a tie is a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib import pairs, products, scan
from vigorlib.products import Products, ladder

if TYPE_CHECKING:
    from vigorlib.index import Gallery, Kind

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """What retrieval found for Q queries.

    positive: (Q,) number of tiles strictly more similar than the positive (a tie favours the model).
    without_semi_positives: (Q,) the same with the query's three semi-positives left out.
    top: (Q, k) the most similar tiles, best first, among equals the lower index first.
    top_similarity: (Q, k) their cosine similarities.
    """

    positive: Indices
    without_semi_positives: Indices
    top: Indices
    top_similarity: NDArray[np.float64]


def ranks(
    ground: Tensor | NDArray[np.floating],
    satellite: Tensor | NDArray[np.floating],
    references: Indices,
    k: int = 10,
    block_rows: int | None = None,
) -> Ranking:
    """Rank the whole gallery for every query.

    ground: (Q, D) and satellite: (N, D), L2-normalised, on one device; references: (Q, 4) indices
    into the gallery, positive first. block_rows: queries at a time (default: at most 256 MB).
    Raises ValueError for shapes or indices that do not fit and for descriptors that are not
    normalised or not finite.
    """
    queries, gallery = checked(ground, "ground"), checked(satellite, "satellite")
    references = np.asarray(references)
    require_fitting(queries, gallery, references, k)
    return _Search(queries, gallery, k, block_rows).ranking(references)


def search(
    ground: Tensor | NDArray[np.floating],
    satellite: Tensor | NDArray[np.floating] | Gallery,
    k: int = 50,
    block_rows: int | None = None,
    kind: Kind = "exact",
) -> tuple[Indices, NDArray[np.float64]]:
    """The k most similar tiles of each query, best first, and their similarities: (Q, k) each.

    satellite: (N, D) descriptors, or a gallery made of them by :func:`vigorlib.index.build`.
    kind: how to search descriptors: exactly, or by FAISS ("flat", "ivfpq"; whoever asks more than
    once builds the gallery once).
    """
    if hasattr(satellite, "search"):
        return satellite.search(ground, k)
    if kind != "exact":
        from vigorlib import index  # it imports this module

        return index.build(satellite, kind).search(ground, k)
    queries, gallery = checked(ground, "ground"), checked(satellite, "satellite")
    require_fitting(queries, gallery, None, k)
    return best(queries, gallery, k, block_rows)


def best(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    block_rows: int | None = None,
    without: Indices | None = None,
    unit: bool = True,
) -> tuple[Indices, NDArray[np.float64]]:
    """:func:`search` in descriptors that were checked before.

    without: (Q, M) tiles that are never among the best of a query; negative: none. At least k
    others must be left. unit: False for descriptors of any length (then by their dot products).
    """
    return _Search(queries, gallery, k, block_rows, unit).best(without)


def rescore(
    ground: Tensor | NDArray[np.floating],
    satellite: Tensor | NDArray[np.floating],
    tiles: Indices,
) -> tuple[Indices, NDArray[np.float64]]:
    """A shortlist in the order of the exact similarities, and these: (Q, k) each.

    tiles: (Q, k) of an approximate search. satellite: the descriptors, or a memory map of them, of
    which only the shortlist is read.
    """
    queries = checked(ground, "ground")
    listed, place = np.unique(tiles, return_inverse=True)
    if len(tiles) != len(queries) or listed[0] < 0 or listed[-1] >= len(satellite):
        raise ValueError(
            f"tiles are {np.shape(tiles)}, from {listed[0]} to {listed[-1]}: expected "
            f"({len(queries)}, k) indices into a gallery of {len(satellite)}"
        )
    gallery = checked(satellite[listed], "satellite")
    require_fitting(queries, gallery, None, 1)
    places, exact = rescored(queries, gallery, place.reshape(tiles.shape))
    return listed[places], exact


def rescored(
    queries: Tensor, gallery: Tensor, tiles: Indices
) -> tuple[Indices, NDArray[np.float64]]:
    """:func:`rescore` in descriptors that were checked before; only the listed ones are read."""
    query = np.arange(len(tiles)).repeat(tiles.shape[1])
    exact = pairs.similarities(queries, gallery, query, tiles.reshape(-1)).reshape(tiles.shape)
    order = np.lexsort((tiles, -exact))
    return np.take_along_axis(tiles, order, axis=1), np.take_along_axis(exact, order, axis=1)


# -- blocks, precision by precision ----------------------------------------------------------


class _Search:
    """One gallery and its queries, on the way down the ladder of precisions."""

    def __init__(
        self,
        queries: Tensor,
        gallery: Tensor,
        k: int,
        block_rows: int | None,
        unit: bool = True,
    ) -> None:
        self.queries, self.gallery, self.unit = queries.detach(), gallery.detach(), unit
        self.k, self.block_rows = min(k, len(gallery)), block_rows
        self.top = np.empty((len(queries), self.k), dtype=np.int64)
        self.similarity = np.empty((len(queries), self.k))

    def ranking(self, references: Indices) -> Ranking:
        query = np.arange(len(self.queries))
        own = self._exact(query, references[:, 0])
        positive = np.empty(len(query), dtype=np.int64)

        def look(block: scan.Block) -> NDArray[np.bool_]:
            crowded = self._find_best(block)
            positive[block.rows], also = self._strictly_better(block, own[block.rows])
            return crowded | also

        self._down_the_ladder(look)
        semi = self._exact(query.repeat(3), references[:, 1:].reshape(-1)).reshape(-1, 3)
        without = positive - (semi > own[:, None]).sum(axis=1)
        return Ranking(positive, without, self.top, self.similarity)

    def best(self, without: Indices | None) -> tuple[Indices, NDArray[np.float64]]:
        def look(block: scan.Block) -> NDArray[np.bool_]:
            if without is not None:
                block.leave_out(without[block.rows])
            return self._find_best(block)

        self._down_the_ladder(look)
        return self.top, self.similarity

    def _down_the_ladder(self, look: Callable[[scan.Block], NDArray[np.bool_]]) -> None:
        """Look at every row; those that are too crowded for a precision again in the next."""
        rows = np.arange(len(self.queries))
        for precision in ladder(self.queries, self.gallery):
            blocks = Products(self.queries, self.gallery, precision, self.unit)
            size = self.block_rows or products.rows_at_once(len(self.gallery), precision)
            crowded = []
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                last = precision == "float64"
                block = scan.Block(part, *blocks.block(part), blocks.rounding, last)
                crowded.append(part[look(block)])
            rows = np.concatenate(crowded)
            if not len(rows):
                return

    def _strictly_better(
        self, block: scan.Block, own: NDArray[np.float64]
    ) -> tuple[Indices, NDArray[np.bool_]]:
        """(rows,) how many tiles beat the positive, and whether too many may or may not."""
        open_pairs = block.between(own - block.margin, own + block.margin)
        unclear = np.zeros(len(own), dtype=np.int64)
        for row, tile in open_pairs:
            better = row[self._exact(block.rows[row], tile) > own[row]]
            unclear += np.bincount(better, minlength=len(own))
        return open_pairs.above + unclear, open_pairs.crowded

    def _find_best(self, block: scan.Block) -> NDArray[np.bool_]:
        """Fill in the best tiles of the rows; returns for which too many may be among them."""
        kth, no_end = block.kth_largest(self.k), np.full(len(block.rows), np.inf)
        if not block.rounding:
            candidates = block.between(kth - 2 * block.margin, no_end, self.k)
            return self._take_best(block, candidates)
        # where values are far off: the k that seem best, then what may be better than the least
        crowded = self._take_best(block, block.at_least(kth, self.k))
        least = np.where(crowded, np.inf, self.similarity[block.rows, -1])
        others = block.between(least - block.margin, no_end, self.k, below=kth)
        return crowded | self._take_best(block, others, and_those_before=True)

    def _take_best(
        self, block: scan.Block, candidates: scan.Open, and_those_before: bool = False
    ) -> NDArray[np.bool_]:
        """Fill in the best of the candidates, or of these and what was filled in before."""
        for row, tile in candidates:
            exact = self._exact(block.rows[row], tile)
            present = np.unique(row)
            if and_those_before:
                rows = block.rows[present]
                row = np.concatenate([row, present.repeat(self.k)])
                tile = np.concatenate([tile, self.top[rows].reshape(-1)])
                exact = np.concatenate([exact, self.similarity[rows].reshape(-1)])
            order = np.lexsort((tile, -exact, row))
            starts = np.searchsorted(row[order], present)
            chosen = order[starts[:, None] + np.arange(self.k)]
            self.top[block.rows[present]] = tile[chosen]
            self.similarity[block.rows[present]] = exact[chosen]
        return candidates.crowded

    def _exact(self, query: Indices, tile: Indices) -> NDArray[np.float64]:
        return pairs.similarities(self.queries, self.gallery, query, tile)


# -- checks ----------------------------------------------------------------------------------


def checked(values: Tensor | NDArray[np.floating], name: str) -> Tensor:
    """Descriptors as a tensor; raises ValueError unless they are (rows, D), L2-normalised, finite."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}: expected (rows, D) "
            "floating point descriptors"
        )
    if not len(tensor):
        raise ValueError(f"{name} has no rows: expected at least one descriptor")
    norms = tensor.norm(dim=1, dtype=torch.promote_types(tensor.dtype, torch.float32))
    wrong = ~((norms - 1).abs() < 1e-2)  # True for NaN
    if wrong.any():
        row = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"row {row} of {name} has length {float(norms[row]):.4g}: expected L2-normalised, "
            "finite descriptors"
        )
    return tensor


def require_fitting(queries: Tensor, gallery: Tensor, references: Indices | None, k: int) -> None:
    """Raises ValueError for queries, a gallery, references and k that do not belong together."""
    if k < 1:
        raise ValueError(f"k is {k}: expected at least 1")
    if queries.shape[1] != gallery.shape[1] or queries.dtype != gallery.dtype:
        raise ValueError(
            f"ground is (Q, {queries.shape[1]}) {queries.dtype}, satellite (N, {gallery.shape[1]}) "
            f"{gallery.dtype}: expected the same D and type"
        )
    if references is None:
        return
    if not np.issubdtype(references.dtype, np.integer):
        raise ValueError(f"references are {references.dtype}: expected integer indices")
    if references.shape != (len(queries), 4):
        raise ValueError(
            f"references has shape {references.shape}: expected ({len(queries)}, 4), positive first"
        )
    if references.size and not (0 <= references.min() and references.max() < len(gallery)):
        raise ValueError(
            f"references run from {references.min()} to {references.max()}: expected indices into "
            f"a gallery of {len(gallery)}"
        )

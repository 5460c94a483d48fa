"""Descriptors -> exact ranks and nearest tiles, streamed: no Q x N matrix ever exists.

Rows of similarities are computed in blocks in the descriptors' own precision. Wherever two
similarities are too close for that precision to tell apart, both are computed again in float64, a
pair at a time, always by the same sum: ranks do not depend on block sizes, on the order of the
gallery or on the machine's matrix kernels, and a tie is a tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from vigorlib.index import Gallery, Kind

Indices = NDArray[np.int64]
BLOCK_BYTES = 256 * 2**20


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
    into the gallery, positive first. block_rows: queries at a time (default: about 256 MB).
    Raises ValueError for shapes or indices that do not fit and for descriptors that are not
    normalised or not finite.
    """
    queries, gallery = checked(ground, "ground"), checked(satellite, "satellite")
    references = np.asarray(references)
    require_fitting(queries, gallery, references, k)
    positive = np.empty(len(queries), dtype=np.int64)
    without = np.empty(len(queries), dtype=np.int64)
    top, similarity = _empty_top(len(queries), min(k, len(gallery)))
    for rows, block in _blocks(queries, gallery, block_rows):
        positive[rows] = _strictly_better(queries, gallery, rows, block, references[rows, 0])
        top[rows], similarity[rows] = _top(queries, gallery, rows, block, top.shape[1])
        without[rows] = positive[rows] - _semi_positives_better(
            queries, gallery, rows, references[rows]
        )
    return Ranking(positive, without, top, similarity)


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
    queries: Tensor, gallery: Tensor, k: int, block_rows: int | None = None
) -> tuple[Indices, NDArray[np.float64]]:
    """:func:`search` in descriptors that were checked before."""
    top, similarity = _empty_top(len(queries), min(k, len(gallery)))
    for rows, block in _blocks(queries, gallery, block_rows):
        top[rows], similarity[rows] = _top(queries, gallery, rows, block, top.shape[1])
    return top, similarity


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
    query = np.arange(len(queries)).repeat(tiles.shape[1])
    exact = _exact(queries, gallery, query, place.reshape(-1)).reshape(tiles.shape)
    order = np.lexsort((tiles, -exact))
    return np.take_along_axis(tiles, order, axis=1), np.take_along_axis(exact, order, axis=1)


# -- one block of rows -----------------------------------------------------------------------


def _blocks(
    queries: Tensor, gallery: Tensor, block_rows: int | None
) -> Iterator[tuple[slice, Tensor]]:
    """Slices of queries with their similarities to the whole gallery, (rows, N)."""
    size = block_rows or max(BLOCK_BYTES // (len(gallery) * queries.element_size()), 1)
    for start in range(0, len(queries), size):
        rows = slice(start, min(start + size, len(queries)))
        yield rows, queries[rows] @ gallery.T


def _strictly_better(
    queries: Tensor, gallery: Tensor, rows: slice, block: Tensor, positives: Indices
) -> Indices:
    """(rows,) how many tiles beat the positive."""
    columns = torch.from_numpy(positives).to(block.device)[:, None]
    threshold = block.gather(1, columns)  # the positive's similarity, inexact
    margin = 2 * _error_bound(queries)
    clear = (block > threshold + margin).sum(dim=1).cpu().numpy()
    unclear = ((block - threshold).abs() <= margin).nonzero().cpu().numpy()
    row, tile = unclear[:, 0], unclear[:, 1]
    exact = _exact(queries, gallery, row + rows.start, tile)
    own = _exact(queries, gallery, np.arange(rows.start, rows.stop), positives)
    return clear + np.bincount(row[exact > own[row]], minlength=len(clear))


def _semi_positives_better(
    queries: Tensor, gallery: Tensor, rows: slice, references: Indices
) -> Indices:
    """(rows,) how many of the three semi-positives beat the positive."""
    query = np.arange(rows.start, rows.stop).repeat(4)
    exact = _exact(queries, gallery, query, references.reshape(-1)).reshape(-1, 4)
    return (exact[:, 1:] > exact[:, :1]).sum(axis=1)


def _top(
    queries: Tensor, gallery: Tensor, rows: slice, block: Tensor, k: int
) -> tuple[Indices, NDArray[np.float64]]:
    """(rows, k) best tiles and their similarities."""
    last = block.topk(k, dim=1).values[:, -1:]
    candidates = (block >= last - 2 * _error_bound(queries)).nonzero().cpu().numpy()
    row, tile = candidates[:, 0], candidates[:, 1]
    exact = _exact(queries, gallery, row + rows.start, tile)
    order = np.lexsort((tile, -exact, row))
    starts = np.searchsorted(row, np.arange(len(block)))  # row is sorted already
    chosen = order[starts[:, None] + np.arange(k)]
    return tile[chosen], exact[chosen]


def _exact(
    queries: Tensor, gallery: Tensor, query: Indices, tile: Indices, chunk: int = 1 << 14
) -> NDArray[np.float64]:
    """Similarity of listed pairs in float64, each by the same sum whatever surrounds it."""
    out = np.empty(len(query))
    for start in range(0, len(query), chunk):
        part = slice(start, start + chunk)
        a = queries[torch.from_numpy(query[part]).to(queries.device)].double().cpu().numpy()
        b = gallery[torch.from_numpy(tile[part]).to(gallery.device)].double().cpu().numpy()
        out[part] = (a * b).sum(axis=1)
    return out


def _error_bound(queries: Tensor) -> float:
    """How far a dot product of unit vectors in this precision can be off, at worst."""
    return queries.shape[1] * torch.finfo(queries.dtype).eps


# -- checks ----------------------------------------------------------------------------------


def _empty_top(queries: int, k: int) -> tuple[Indices, NDArray[np.float64]]:
    return np.empty((queries, k), dtype=np.int64), np.empty((queries, k))


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

"""Similarities of listed pairs in float64, each by the same sum whatever surrounds it.

The sum is NumPy's own (``(a * b).sum()``): halves of halves down to 128 numbers, of which every
eighth is added up. It is written out here so that it does not depend on a version, a processor or a
device, and so that millions of pairs can be summed without copies of their rows.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]
LEAF = 128
CHUNK = 1 << 14
"""Pairs at a time where rows have to be copied."""


def similarities(
    queries: Tensor, gallery: Tensor, query: Indices, tile: Indices
) -> NDArray[np.float64]:
    """(P,) of queries[query[p]] and gallery[tile[p]]; (Q, D) and (N, D) on one device."""
    out = np.empty(len(query))
    if not _compiled(queries, gallery):
        for part, a, b in _copies(queries, gallery, query, tile):
            out[part] = summed(a * b).cpu().numpy()
        return out
    from vigorlib import kernels

    a, b, steps = queries.numpy(), gallery.numpy(), summation(queries.shape[1])
    order = np.argsort(tile, kind="stable")  # neighbours in memory one after the other
    query, tile, found = query[order], tile[order], np.empty(len(query))
    kernels.in_threads(
        lambda part: kernels.pair_sums(a, b, query[part], tile[part], *steps, found[part]),
        len(query),
        least=256,
    )
    out[order] = found
    return out


def greater(
    queries: Tensor,
    gallery: Tensor,
    query: Indices,
    tile: Indices,
    than: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """(P,) whether :func:`similarities` of these pairs of unit vectors exceed ``than`` (P,).

    Summed in any order first; only where that cannot tell is the prescribed order needed.
    """
    margin = 3 * queries.shape[1] * np.finfo(np.float64).eps  # products, and two sums
    rough = _in_any_order(queries, gallery, query, tile)
    over = rough > than
    near = np.flatnonzero(np.abs(rough - than) <= margin)
    over[near] = similarities(queries, gallery, query[near], tile[near]) > than[near]
    return over


def in_order(
    queries: Tensor,
    gallery: Tensor,
    query: Indices,
    tile: Indices,
    margin: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(P,) numbers that order the pairs of a query as :func:`similarities` would, for less.

    margin: (P,) how far apart two sums have to be to be told apart in any order of summation.
    """
    rough = _in_any_order(queries, gallery, query, tile)
    order = np.lexsort((rough, query))
    close = (
        np.diff(rough[order]) <= margin[order[1:]]
    )  # to the one before; of which query is no harm
    near = np.union1d(order[1:][close], order[:-1][close])
    rough[near] = similarities(queries, gallery, query[near], tile[near])
    return rough


def _in_any_order(
    queries: Tensor, gallery: Tensor, query: Indices, tile: Indices
) -> NDArray[np.float64]:
    """(P,) float64 sums, right but for their last bits."""
    out = np.empty(len(query))
    if not _compiled(queries, gallery):
        for part, a_rows, b_rows in _copies(queries, gallery, query, tile):
            out[part] = (a_rows * b_rows).sum(dim=1).cpu().numpy()
        return out
    from vigorlib import kernels

    a, b = queries.numpy(), gallery.numpy()
    kernels.in_threads(
        lambda part: kernels.pair_sums_any_order(a, b, query[part], tile[part], out[part]),
        len(query),
        least=256,
    )
    return out


def _compiled(queries: Tensor, gallery: Tensor) -> bool:
    known = queries.dtype in (torch.float32, torch.float64)
    rows = all(t.device.type == "cpu" and t.is_contiguous() for t in (queries, gallery))
    return known and rows


def _copies(queries: Tensor, gallery: Tensor, query: Indices, tile: Indices):  # type: ignore[no-untyped-def]
    """Both rows of each pair as float64, (chunk, D) each, with the slice of pairs they are of."""
    for start in range(0, len(query), CHUNK):
        part = slice(start, start + CHUNK)
        yield (
            part,
            queries[torch.from_numpy(query[part]).to(queries.device)].double(),
            gallery[torch.from_numpy(tile[part]).to(gallery.device)].double(),
        )


# -- the order of the sum --------------------------------------------------------------------


def summed(values: Tensor) -> Tensor:
    """(P, D) -> (P,) in the prescribed order, on any device that has float64."""
    width = values.shape[1]
    if width > LEAF:
        half = _half(width)
        return summed(values[:, :half]) + summed(values[:, half:])
    if width < 8:
        total = torch.full_like(values[:, 0], -0.0)
        whole = 0
    else:
        whole = width // 8 * 8
        lanes = values[:, :8]
        for start in range(8, whole, 8):
            lanes = lanes + values[:, start : start + 8]
        pairs = lanes[:, 0::2] + lanes[:, 1::2]  # (P, 4)
        fours = pairs[:, 0::2] + pairs[:, 1::2]
        total = fours[:, 0] + fours[:, 1]
    for column in range(whole, width):
        total = total + values[:, column]
    return total


def _half(width: int) -> int:
    return width // 2 // 8 * 8


@cache
def summation(width: int) -> tuple[Indices, Indices, Indices]:
    """The same order for the compiled loop: edges of the leaves, then which sum is added to which."""
    edges: list[int] = []
    steps: list[tuple[int, int]] = []

    def divide(start: int, stop: int) -> int:
        if stop - start <= LEAF:
            edges.append(start)
            return len(edges) - 1
        middle = start + _half(stop - start)
        left, right = divide(start, middle), divide(middle, stop)
        steps.append((left, right))
        return left

    divide(0, width)
    into, out_of = np.array(steps, dtype=np.int64).reshape(-1, 2).T.copy()
    return np.array([*edges, width], dtype=np.int64), into, out_of

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
    order = np.argsort(tile, kind="stable")  # each tile comes from memory once
    query, tile, found = query[order], tile[order], np.empty(len(query))
    kernels.in_threads(
        lambda part: kernels.pair_sums(a, b, query[part], tile[part], *steps, found[part]),
        len(query),
        least=64,
    )
    out[order] = found
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

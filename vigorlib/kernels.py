"""Compiled loops over similarities: sums of pairs, and one look at a block of them.

All release Python's lock, so that :func:`in_threads` uses every core. Import this module where it is
needed, not at the top: numba takes a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


def in_threads(work: Callable[[slice], object], length: int, least: int = 1) -> None:
    """Call ``work`` on stretches of ``length`` items, as many at once as torch has threads.

    least: items below which another thread does not pay.
    """
    count = max(min(torch.get_num_threads(), length // max(least, 1)), 1)
    edges = np.linspace(0, length, count + 1).astype(int)
    parts = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    if count == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(count) as pool:
        for _ in pool.map(work, parts):  # raises what a part raised
            pass


# -- pairs -----------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def pair_sums(a, b, query, tile, edges, into, out_of, out):
    """out[p]: sum of a[query[p]] * b[tile[p]] in float64, in the order that ``summation`` gives."""
    products, parts = np.empty(a.shape[1]), np.empty(len(edges) - 1)
    for p in range(len(query)):
        x, y = a[query[p]], b[tile[p]]
        for i in range(len(products)):
            products[i] = np.float64(x[i]) * np.float64(y[i])
        for leaf in range(len(parts)):
            parts[leaf] = _leaf(products[edges[leaf] : edges[leaf + 1]])
        for step in range(len(into)):
            parts[into[step]] += parts[out_of[step]]
        out[p] = parts[0]


@njit(cache=True, nogil=True, inline="always")
def _leaf(v):
    """Eight running sums, then their sum, then what is left over."""
    if len(v) < 8:
        total = -0.0
        for value in v:
            total += value
        return total
    a, b, c, d, e, f, g, h = v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
    whole = len(v) // 8 * 8
    for i in range(8, whole, 8):
        a += v[i]
        b += v[i + 1]
        c += v[i + 2]
        d += v[i + 3]
        e += v[i + 4]
        f += v[i + 5]
        g += v[i + 6]
        h += v[i + 7]
    total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(whole, len(v)):
        total += v[i]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def pair_sums_any_order(a, b, query, tile, out):
    """As :func:`pair_sums` in whatever order the processor likes best: a third of the time."""
    for p in range(len(query)):
        x, y = a[query[p]], b[tile[p]]
        total = 0.0
        for i in range(len(x)):
            total += np.float64(x[i]) * np.float64(y[i])
        out[p] = total


# -- half precision --------------------------------------------------------------------------


@intrinsic
def _half(context: Any, bits: Any) -> Any:
    """The number that sixteen bits stand for: numba itself knows no float16 on processors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def half_products(rows, query, out):
    """out[r]: rows[r] * query, added up in float32 in any order.

    rows: (N, D) the bits of float16; query: (D,) float32. Four rows at once: memory is what limits.
    """
    whole = len(rows) // 4 * 4
    for r in range(0, whole, 4):
        a, b, c, d = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        s = t = u = v = np.float32(0)
        for i in range(len(query)):
            s += _half(a[i]) * query[i]  # type: ignore[call-arg]
            t += _half(b[i]) * query[i]  # type: ignore[call-arg]
            u += _half(c[i]) * query[i]  # type: ignore[call-arg]
            v += _half(d[i]) * query[i]  # type: ignore[call-arg]
        out[r], out[r + 1], out[r + 2], out[r + 3] = s, t, u, v
    for r in range(whole, len(rows)):
        s = np.float32(0)
        for i in range(len(query)):
            s += _half(rows[r, i]) * query[i]  # type: ignore[call-arg]
        out[r] = s


# -- blocks ----------------------------------------------------------------------------------

STRETCH = 128
"""Values that are passed over together where none of them counts."""


@njit(cache=True, nogil=True)
def kth_largest(block, k, out):
    """out[row]: the k-th largest of a row of ``block``, which has at least k columns."""
    heap = np.empty(k, block.dtype)  # the k largest so far, the least of them first
    for row in range(len(block)):
        values = block[row]
        heap[:] = -np.inf
        for start in range(0, len(values), STRETCH):
            part = values[start : start + STRETCH]
            if _reaching(part, heap[0]):
                for value in part:
                    if value > heap[0]:
                        _replace_least(heap, value)
        out[row] = heap[0]


@njit(cache=True, nogil=True, inline="always")
def _replace_least(heap, value):
    place = 0
    while 2 * place + 1 < len(heap):
        child = 2 * place + 1
        if child + 1 < len(heap) and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value


@njit(cache=True, nogil=True)
def select(block, low, high, limit, above, within, row_of, tile_of):
    """Pairs whose similarity lies within [low, high] of their row, and how many lie above.

    Rows with more than ``limit`` pairs are counted but not listed. Stops before the row whose pairs
    would not fit into ``row_of`` and ``tile_of``. Returns (rows done, pairs listed).
    """
    listed = 0
    for row in range(len(block)):
        values, least, most = block[row], low[row], high[row]
        over = _exceeding(values, most)
        count = _reaching(values, least) - over
        if count <= limit and listed + count > len(row_of):
            return row, listed
        above[row], within[row] = over, count
        if not 0 < count <= limit:
            continue
        for start in range(0, len(values), STRETCH):
            part = values[start : start + STRETCH]
            if _reaching(part, least):
                for i in range(len(part)):
                    if least <= part[i] <= most:
                        row_of[listed], tile_of[listed] = row, start + i
                        listed += 1
    return len(block), listed


@njit(cache=True, nogil=True)
def _reaching(values, least):
    count = np.int32(0)  # as narrow as the values: more of them in a vector
    for i in range(len(values)):
        count += np.int32(values[i] >= least)
    return count


@njit(cache=True, nogil=True)
def _exceeding(values, most):
    count = np.int32(0)
    for i in range(len(values)):
        count += np.int32(values[i] > most)
    return count

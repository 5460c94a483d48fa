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
from numba.core import cgutils
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
    parts = np.empty(len(edges) - 1)
    for p in range(len(query)):
        x, y = a[query[p]], b[tile[p]]
        for leaf in range(len(parts)):
            parts[leaf] = _leaf(x, y, edges[leaf], edges[leaf + 1])
        for step in range(len(into)):
            parts[into[step]] += parts[out_of[step]]
        out[p] = parts[0]


@njit(cache=True, nogil=True)
def _leaf(x, y, start, stop):
    """Eight running sums, then their sum, then what is left over."""
    whole = start + (stop - start) // 8 * 8
    total = _eights(x, y, start, whole) if whole > start else -0.0  # type: ignore[call-arg]
    for i in range(whole, stop):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@intrinsic
def _eights(context: Any, x: Any, y: Any, start: Any, stop: Any) -> Any:
    """Sum of x[i] * y[i] from start to stop, whole eights, in float64: eight running sums in one
    vector, then these by pairs. A compiler may not do that by itself: it is another order."""
    eight = ir.VectorType(ir.DoubleType(), 8)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def load(which: int, index: Any) -> Any:
            kind = signature.args[which]
            number = context.get_value_type(kind.dtype)
            data = context.make_array(kind)(context, builder, arguments[which]).data
            place = builder.bitcast(
                builder.gep(data, [index]), ir.VectorType(number, 8).as_pointer()
            )
            values = builder.load(place, align=kind.dtype.bitwidth // 8)
            return values if number == eight.element else builder.fpext(values, eight)

        total = cgutils.alloca_once_value(builder, ir.Constant(eight, [-0.0] * 8))
        step = ir.Constant(arguments[2].type, 8)
        with cgutils.for_range_slice(builder, arguments[2], arguments[3], step) as (index, _):
            product = builder.fmul(load(0, index), load(1, index))
            builder.store(builder.fadd(builder.load(total), product), total)
        last = builder.load(total)
        sums = [builder.extract_element(last, ir.Constant(ir.IntType(32), i)) for i in range(8)]
        while len(sums) > 1:
            sums = [builder.fadd(*two) for two in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]

    return types.float64(x, y, types.intp, types.intp), generate


# -- eight bits ------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def byte_products(rows, scale, query, out):
    """out[r]: scale[r] * (rows[r] * query), added up in float32 in any order.

    rows: (N, D) int8; scale: (N,) and query: (D,) float32.
    """
    for r in range(len(rows)):
        total = np.float32(0)
        for i in range(len(query)):
            total += np.float32(rows[r, i]) * query[i]
        out[r] = scale[r] * total


# -- sixteen bits ----------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def to_bfloat16(bits, out, moved):
    """Round to the nearest bfloat16, ties to even. moved[r]: the length of what that changed.

    bits: (N, D) float32 and out: (N, D) bfloat16, as unsigned integers; no NaN, nothing that rounds
    to infinity.
    """
    before, after = np.empty((2, bits.shape[1]), np.uint32)
    was, is_now = before.view(np.float32), after.view(np.float32)
    for r in range(len(bits)):
        for i in range(bits.shape[1]):
            value = bits[r, i]
            before[i] = value
            short = (
                value + np.uint32(0x7FFF) + (value >> np.uint32(16) & np.uint32(1))
            ) >> np.uint32(16)
            out[r, i] = short
            after[i] = short << np.uint32(16)
        total = np.float32(0)
        for i in range(len(was)):
            change = was[i] - is_now[i]
            total += change * change
        moved[r] = np.sqrt(total)


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

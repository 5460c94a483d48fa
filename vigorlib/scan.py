"""What one look at a block of similarities decides, and which pairs it leaves open.

A pair is open if the block's error could change the answer. A row with too many open pairs is
crowded: it is better looked at again in the next precision than pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices]
"""Rows of the block and tiles, (P,) each, sorted by row; all of a row at once."""

AT_ONCE = 1 << 20
"""Open pairs that are listed at a time."""
CROWDED = 16
"""A row is crowded if more than one pair in so many is open: a pair costs as much by itself as that
many in a product."""


@dataclass
class Block:
    """Similarities of some queries to the whole gallery.

    rows: (R,) which queries. values: (R, N) float32 or float64: sums that are off by at most margin,
    (R,), then rounded by a share of at most ``rounding``. last: there is no better precision, so that
    no row is crowded.
    """

    rows: Indices
    values: Tensor
    margin: NDArray[np.float64]
    rounding: float = 0.0
    last: bool = False

    def leave_out(self, tiles: Indices) -> None:
        """Make (R, M) tiles less similar than any; negative ones mean none."""
        row, which = np.nonzero(tiles >= 0)
        self.values[torch.from_numpy(row), torch.from_numpy(tiles[row, which])] = -torch.inf

    def kth_largest(self, k: int) -> NDArray[np.float64]:
        """(R,) the k-th largest value of each row."""
        if not _compiled(self.values):
            return self.values.topk(k, dim=1).values[:, -1].double().cpu().numpy()
        from vigorlib import kernels

        values, out = self.values.numpy(), np.empty(len(self.values))
        kernels.in_threads(lambda p: kernels.kth_largest(values[p], k, out[p]), len(values))
        return out

    def at_least(self, value: NDArray[np.float64], k: int) -> Open:
        """The pairs whose value is at least this one of their row, (R,). k: so many are no crowd."""
        return self._open(value.astype(self._kind), np.full(len(value), np.inf, self._kind), k)

    def between(
        self,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        k: int = 0,
        below: NDArray[np.float64] | None = None,
    ) -> Open:
        """The pairs whose sum may lie within [low, high] of their row, (R,) each. k: so many are no
        crowd. below: only those whose value is less than this one, (R,)."""
        nothing, all_ = self._kind(-np.inf), self._kind(np.inf)
        least = np.nextafter(_away(low, -self.rounding).astype(self._kind), nothing)
        most = np.nextafter(_away(high, self.rounding).astype(self._kind), all_)
        if below is not None:
            most = np.minimum(most, np.nextafter(below.astype(self._kind), nothing))
        return self._open(least, most, k)

    def _open(self, least: NDArray[np.floating], most: NDArray[np.floating], k: int) -> Open:
        size = self.values.shape[1]
        return Open(self.values, least, most, size if self.last else size // CROWDED + 4 * k)

    @property
    def _kind(self) -> type[np.floating]:
        return np.float64 if self.values.dtype == torch.float64 else np.float32


def _compiled(values: Tensor) -> bool:
    return values.device.type == "cpu"


def _away(value: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Larger by a share of its own size, or less; infinities stay."""
    return value * (1 + np.sign(value) * share)


class Open:
    """Pairs of a block within [low, high] of their row; listed a portion at a time, once.

    above: (R,) how many tiles lie above. crowded: (R,) whether more than ``limit`` lie within; these
    are not listed. Both are known when the list has come to its end.
    """

    def __init__(
        self, values: Tensor, low: NDArray[np.floating], high: NDArray[np.floating], limit: int
    ) -> None:
        self.values, self.low, self.high, self.limit = values, low, high, limit
        self.above, self.within = np.zeros((2, len(values)), dtype=np.int64)

    @property
    def crowded(self) -> NDArray[np.bool_]:
        return self.within > self.limit

    def __iter__(self) -> Iterator[Pairs]:
        return self._compiled() if _compiled(self.values) else self._torch()

    def _compiled(self) -> Iterator[Pairs]:
        """Each thread lists pairs of its stretch of rows until its portion is full."""
        from vigorlib import kernels

        values = self.values.numpy()
        workers = max(min(torch.get_num_threads(), len(values)), 1)
        edges = np.linspace(0, len(values), workers + 1).astype(int)
        portion = np.empty((workers, 2, max(AT_ONCE // workers, values.shape[1])), dtype=np.int64)
        reached, listed = edges[:-1].copy(), np.zeros(workers, dtype=np.int64)

        def fill(worker: int) -> None:
            part = slice(reached[worker], edges[worker + 1])
            rows, listed[worker] = kernels.select(
                values[part], self.low[part], self.high[part], self.limit,
                self.above[part], self.within[part], *portion[worker],
            )  # fmt: skip
            portion[worker, 0, : listed[worker]] += reached[worker]
            reached[worker] += rows

        while (reached < edges[1:]).any():
            kernels.in_threads(lambda part: fill(part.start), workers)
            for full, count in zip(portion, listed, strict=True):
                if count:
                    yield full[0, :count], full[1, :count]

    def _torch(self) -> Iterator[Pairs]:
        low, high = (
            torch.from_numpy(edge).to(self.values.device)[:, None] for edge in (self.low, self.high)
        )
        over = self.values > high
        inside = (self.values >= low) & ~over
        self.above[:], self.within[:] = (x.sum(dim=1).cpu().numpy() for x in (over, inside))
        inside &= torch.from_numpy(~self.crowded).to(self.values.device)[:, None]
        step = max(AT_ONCE // self.values.shape[1], 1)
        for start in range(0, len(self.values), step):
            row, tile = inside[start : start + step].nonzero().cpu().numpy().T
            if len(row):
                yield row + start, tile

"""Blocks of similarities, quickly, and how far off each can be.

A block is a matrix product in some precision. Rounding a descriptor moves it by a length that is
measured; adding up D products in that precision errs by no more than D units in the last place
(Higham, "Accuracy and Stability of Numerical Algorithms", 3.1, in any order of summation). What
lies further apart than both together needs no better product; what does not is looked at in the
next precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib.device import processor_has_bfloat16

Precision = Literal["bfloat16", "float16", "float32", "float64"]
Indices = NDArray[np.int64]

BLOCK_BYTES = 256 * 2**20
ROWS = 1024
"""Of a block at most: more make the product no quicker, and their memory has to be handed out."""
PIECE_BYTES = 64 * 2**20
"""Converted rows of the gallery at a time."""
PART = 4096
"""Rows that are measured at a time."""
LARGE = 1e11
"""Multiply-adds from which it pays to find out what this machine is fast at."""
UNIT = 1.01
"""No L2-normalised descriptor is longer."""
DTYPES = {name: getattr(torch, name) for name in ("bfloat16", "float16", "float32", "float64")}


def ladder(queries: Tensor, gallery: Tensor) -> tuple[Precision, ...]:
    """The precisions to try on these descriptors, the quickest first.

    Half precision leads where a product in it is quick: on a GPU, and on processors that multiply
    bfloat16 in hardware, which is measured once.
    """
    exact: tuple[Precision, ...] = ("float32", "float64")
    if queries.device.type == "cuda":
        return ("float16", *exact)
    quick = (
        processor_has_bfloat16()
        and _large(queries, gallery)
        and all(_clearly_quicker("bfloat16", other, 0.7) for other in ("numpy", "torch"))
    )
    return ("bfloat16", *exact) if quick else exact


def rows_at_once(tiles: int, precision: Precision = "float32") -> int:
    """Rows of a block of similarities to so many tiles."""
    size = 8 if precision == "float64" else 4
    return min(max(BLOCK_BYTES // (size * tiles), 1), ROWS)


def room(rows: int, columns: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Memory for a large matrix. NumPy asks Linux for it in large pages, and has it three times as
    fast as torch."""
    if torch.device(device).type != "cpu":
        return torch.empty(rows, columns, dtype=dtype, device=device)
    memory = np.empty((rows, columns * dtype.itemsize), np.uint8)
    return torch.from_numpy(memory).view(dtype)


class Products:
    """Similarities of queries (Q, D) to a gallery (N, D) in one precision.

    unit: all are L2-normalised (to 1 %, as :func:`vigorlib.retrieval.checked` has it), so that no
    lengths need be measured.
    """

    def __init__(
        self, queries: Tensor, gallery: Tensor, precision: Precision, unit: bool = True
    ) -> None:
        self.unit = unit
        self._space: dict[torch.dtype, Tensor] = {}
        self.queries, self.gallery, self.precision = queries, gallery, precision
        self.dtype, self.low = DTYPES[precision], precision in ("bfloat16", "float16")
        self.scale = 16.0 if precision == "float16" else 1.0  # keeps small numbers normal
        self.rounding = 1.01 * torch.finfo(self.dtype).eps / 2 if self.low else 0.0
        self._converted: Tensor | None = None
        self.moved = 0.0  # the farthest that rounding moves a descriptor of the gallery
        if self.low:
            self._converted, moved = self._rounded(gallery)
            self.moved = float(moved.max())
        elif not self._exactly_convertible(gallery):
            self.moved = max(float(self._rounded(part)[1].max()) for part in gallery.split(PART))
        self.length = UNIT if unit else max(float(_lengths(p).max()) for p in gallery.split(PART))

    def block(self, rows: Indices | slice) -> tuple[Tensor, NDArray[np.float64]]:
        """(rows, N) similarities, float32 or float64, and (rows,) how far off their sums can be, before
        these are rounded by a share of at most :attr:`rounding`.

        The next block may take the same memory.
        """
        queries = self.queries[_stretch(rows)]
        converted, moved = self._rounded(queries)
        with _nothing_but_this_precision():
            if self._converted is not None:
                low = torch.matmul(
                    converted, self._converted.T, out=self._room(len(converted), self.dtype)
                )
                block = self._room(len(converted), torch.float32).copy_(low)
                if self.scale != 1:
                    block /= self.scale**2
            elif self.gallery.dtype == self.dtype:
                block = _product(converted, self.gallery, self._room(len(converted), self.dtype))
            else:
                block = self._in_pieces(converted)
        return block, self._margin(queries, moved)

    def _room(self, rows: int, dtype: torch.dtype) -> Tensor:
        """Memory for a block, taken once: the system empties what it hands out."""
        space = self._space.get(dtype)
        if space is None or len(space) < rows:
            space = self._space[dtype] = room(rows, len(self.gallery), dtype, self.gallery.device)
        return space[:rows]

    def _in_pieces(self, queries: Tensor) -> Tensor:
        """The gallery converted a piece at a time."""
        size, block = len(self.gallery), self._room(len(queries), self.dtype)
        step = max(PIECE_BYTES // (self.gallery.shape[1] * self.dtype.itemsize), 1)
        for start in range(0, size, step):
            part = slice(start, start + step)
            block[:, part] = _product(queries, self.gallery[part].to(self.dtype))
        return block

    def _convert(self, rows: Tensor) -> Tensor:
        return (rows * self.scale).to(self.dtype) if self.scale != 1 else rows.to(self.dtype)

    def _rounded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows in this precision, and (rows,) the length of what rounding changed in each."""
        if self._exactly_convertible(rows):
            return self._convert(rows), torch.zeros(len(rows), device=rows.device)
        if (self.precision, rows.dtype, rows.device.type) == ("bfloat16", torch.float32, "cpu"):
            return _rounded_at_once(rows)
        converted = self._convert(rows)
        wide = torch.promote_types(rows.dtype, torch.float32)
        parts = zip(rows.split(PART), converted.split(PART), strict=True)
        moved = [_lengths(a.to(wide) - b.to(wide) / self.scale) for a, b in parts]
        return converted, torch.cat(moved)

    def _exactly_convertible(self, rows: Tensor) -> bool:
        return torch.promote_types(rows.dtype, self.dtype) == self.dtype and self.scale == 1

    def _margin(self, queries: Tensor, moved: Tensor) -> NDArray[np.float64]:
        """|da| |b| + |a| |db| + the sum's own error, with a little room for these lengths' own."""
        own = torch.full_like(moved, UNIT) if self.unit else _lengths(queries)
        relative = queries.shape[1] * (self._unit() + 2.0**-52)
        margin = moved * self.length + (own + moved) * (self.moved + relative * self.length)
        too_small = torch.finfo(self.dtype).tiny / self.scale**2  # and may become nothing
        return 1.02 * margin.double().cpu().numpy() + max(too_small, 1e-30)

    def _unit(self) -> float:
        """What an addition can be off: half a unit in the last place, or a whole one where tensor
        cores and dot-product instructions cut off instead of rounding."""
        if self.dtype == torch.float64:
            return 2.0**-53
        return 2.0**-24 if self.queries.device.type == "cpu" and not self.low else 2.0**-23


def _stretch(rows: Indices | slice) -> Indices | slice:
    """Rows that follow each other as a slice, which copies nothing."""
    if isinstance(rows, slice) or rows[-1] - rows[0] != len(rows) - 1:
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)


def _rounded_at_once(rows: Tensor) -> tuple[Tensor, Tensor]:
    """float32 as bfloat16, and (rows,) what that changed: one pass where torch takes four."""
    from vigorlib import kernels

    values = np.ascontiguousarray(rows.numpy())
    made, moved = np.empty(values.shape, np.uint16), np.empty(len(values), np.float32)
    kernels.in_threads(
        lambda part: kernels.to_bfloat16(values[part].view(np.uint32), made[part], moved[part]),
        len(values),
    )
    return torch.from_numpy(made.view(np.int16)).view(torch.bfloat16), torch.from_numpy(moved)


def _lengths(rows: Tensor) -> Tensor:
    return rows.norm(dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))


# -- which product ---------------------------------------------------------------------------


def _product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """(Q, D) x (N, D) -> (Q, N), on a processor by the quicker of NumPy and torch."""
    if a.device.type != "cpu":
        return a @ b.T
    if _large(a, b) and _clearly_quicker("torch", "numpy", 0.85):
        return torch.matmul(a, b.T, out=out)
    space = None if out is None else out.numpy()
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy().T, out=space))


def _large(queries: Tensor, gallery: Tensor) -> bool:
    return len(queries) * gallery.numel() > LARGE


def _clearly_quicker(way: str, than: str, share: float) -> bool:
    """By the clock and by CPU time: on a busy machine one of them may be chance."""
    return all(_speeds()[way][i] < share * _speeds()[than][i] for i in range(2))


@cache
def _speeds() -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds of a product on this machine, the least of several in turn."""
    a, b = torch.rand(256, 2048), torch.rand(2048, 2048)
    ways: dict[str, Callable[[], object]] = {
        "numpy": lambda: np.matmul(a.numpy(), b.numpy().T),
        "torch": lambda: a @ b.T,
    }
    if processor_has_bfloat16():
        low = a.bfloat16(), b.bfloat16()
        ways["bfloat16"] = lambda: low[0] @ low[1].T
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(4):
        for name, work in ways.items():
            for _ in range(3):  # in the first, the other library's threads still wait on the cores
                started, spent = time.perf_counter(), time.process_time()
                work()
                taken[name].append((time.perf_counter() - started, time.process_time() - spent))
    return {name: tuple(map(min, zip(*turns[1:], strict=True))) for name, turns in taken.items()}  # type: ignore[misc]


@contextmanager
def _nothing_but_this_precision() -> Iterator[None]:
    """Settings that let torch round more than asked for are off meanwhile."""
    matmul, before = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    reduced = matmul.allow_fp16_reduced_precision_reduction
    if before == "highest" and not (reduced and torch.cuda.is_available()):
        yield
        return
    torch.set_float32_matmul_precision("highest")
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        matmul.allow_fp16_reduced_precision_reduction = reduced

"""No similarity of a block is farther off than its margin says, in any precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vigorlib import products
from vigorlib.products import DTYPES, Products

PRECISIONS = tuple(DTYPES)


def rows(count: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Unit vectors, some with a few large numbers, some with very small ones."""
    values = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).double()
    values[::3] **= 5
    values[1::3, ::2] *= 1e-6
    return F.normalize(values, dim=1).to(dtype)


def farthest(made: Products, queries: torch.Tensor, gallery: torch.Tensor) -> tuple:
    """(Q,) how far a block is off at worst, its last rounding apart, and how far it says it can be."""
    block, margin = made.block(np.arange(len(queries)))
    exact, block = queries.double() @ gallery.double().T, block.double()
    off = (block - exact).abs() - block.abs() * made.rounding
    return off.amax(dim=1).clamp(min=0).numpy(), margin


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [3, 64, 1280])
def test_a_block_is_within_its_margin(width, precision, dtype):
    queries, gallery = rows(20, width, 0, dtype), rows(130, width, 1, dtype)
    off, margin = farthest(Products(queries, gallery, precision), queries, gallery)
    assert (off <= margin).all()
    assert margin.max() < {"bfloat16": 0.012, "float16": 2e-3, "float32": 1.5e-3}.get(
        precision, 1e-12
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_block_of_other_lengths_is_within_its_margin(precision):
    queries, gallery = 3 * rows(20, 200, 0), 2 * rows(130, 200, 1)
    queries[4] = gallery[7] = 0
    off, margin = farthest(Products(queries, gallery, precision, unit=False), queries, gallery)
    assert (off <= margin).all() and margin[4] < 3e-7  # float16 makes nothing of less


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gallery_converted_in_pieces_gives_the_same_block(precision, monkeypatch):
    queries, gallery = rows(7, 64, 0), rows(130, 64, 1)
    whole, _ = Products(queries, gallery, precision).block(slice(0, 7))
    monkeypatch.setattr(products, "PIECE_BYTES", 64 * 8 * 9)
    pieces, _ = Products(queries, gallery, precision).block(slice(0, 7))
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-6)


def test_a_precision_that_rounds_more_than_asked_for_is_not_used():
    """Users may allow torch to multiply float32 in fewer bits; ranks do not."""
    queries, gallery = rows(20, 512, 0), rows(130, 512, 1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        off, margin = farthest(Products(queries, gallery, "float32"), queries, gallery)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert (off <= margin).all()


@pytest.mark.parametrize(
    ("hardware", "seconds", "first"),
    [(True, 0.5, "bfloat16"), (True, 0.9, "float32"), (False, 0.5, "float32")],
)
def test_half_precision_leads_where_it_is_measured_to_be_quick(
    hardware, seconds, first, monkeypatch
):
    speeds = {"numpy": (1, 2), "torch": (1.2, 2.4), "bfloat16": (seconds, 2 * seconds)}
    monkeypatch.setattr(products, "_speeds", lambda: speeds)
    monkeypatch.setattr(products, "processor_has_bfloat16", lambda: hardware)
    monkeypatch.setattr(products, "LARGE", 10)
    assert products.ladder(rows(2, 8, 0), rows(3, 8, 1))[0] == first
    monkeypatch.setattr(products, "LARGE", 1e9)  # not worth a measurement
    assert products.ladder(rows(2, 8, 0), rows(3, 8, 1))[0] == "float32"


@pytest.mark.parametrize("hardware", [True, False])
def test_this_machines_speeds_are_measured(hardware, monkeypatch):
    monkeypatch.setattr(products, "processor_has_bfloat16", lambda: hardware)
    speeds = products._speeds.__wrapped__()
    assert set(speeds) == {"numpy", "torch", *(["bfloat16"] if hardware else [])}
    assert all(0 < wall < 60 and cpu > 0 for wall, cpu in speeds.values())


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (130, 65)])
def test_rounding_at_once_is_torchs_rounding(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values[0, 0] = 1 + 2**-8  # half way: to the even one
    if values.numel() > 4:
        values[0, 1:5] = torch.tensor([1 + 3 * 2**-8, -0.0, 1e-40, -(1 - 2**-9)])
    rounded, moved = products._rounded_at_once(values)
    assert torch.equal(rounded.view(torch.int16), values.bfloat16().view(torch.int16))
    torch.testing.assert_close(moved, (values - values.bfloat16().float()).norm(dim=1))
    assert torch.equal(products._rounded_at_once(values.T)[0], values.T.bfloat16())


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32", "float64"])
def test_room_is_of_the_kind_that_was_asked_for(precision):
    memory = products.room(3, 5, products.DTYPES[precision])
    assert (memory.shape, memory.dtype) == ((3, 5), products.DTYPES[precision])
    assert memory.is_contiguous()


def test_a_block_keeps_to_its_memory_whatever_the_gallery():
    for tiles in (1, 9_000, 90_618, 10**9):
        for precision, size in (("float32", 4), ("float64", 8)):
            rows = products.rows_at_once(tiles, precision)
            assert 1 <= rows <= products.ROWS
            assert rows == 1 or rows * tiles * size <= products.BLOCK_BYTES

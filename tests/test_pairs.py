"""One sum, wherever it is computed: NumPy, compiled loop, tensors of any kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vigorlib import pairs

WIDTHS = (1, 2, 7, 8, 9, 15, 16, 17, 96, 127, 128, 129, 130, 255, 256, 257, 300, 1000, 1280, 4096)


def some_pairs(width: int, dtype: type = np.float32) -> tuple:
    rng = np.random.default_rng(width)
    a, b = (rng.normal(size=(rows, width)).astype(dtype) for rows in (11, 17))
    return a, b, rng.integers(0, 11, 60), rng.integers(0, 17, 60)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_sum_is_numpys_to_the_last_bit(width):
    a, b, query, tile = some_pairs(width)
    found = pairs.similarities(torch.from_numpy(a), torch.from_numpy(b), query, tile)
    expected = (a[query].astype(np.float64) * b[tile].astype(np.float64)).sum(axis=1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_tensors_are_summed_in_the_same_order_as_the_compiled_loop(width):
    """What a GPU computes: additions of whole columns, which no library reorders."""
    a, b, query, tile = some_pairs(width, np.float64)
    compiled = pairs.similarities(torch.from_numpy(a), torch.from_numpy(b), query, tile)
    products = torch.from_numpy(a[query]) * torch.from_numpy(b[tile])
    np.testing.assert_array_equal(pairs.summed(products).numpy(), compiled)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_type_and_layout_sums_alike(dtype):
    a, b, query, tile = some_pairs(300)
    a, b = torch.from_numpy(a).to(dtype), torch.from_numpy(b).to(dtype)
    wide = pairs.similarities(a.double(), b.double(), query, tile)
    turned = b.T.contiguous().T  # the same numbers, column after column
    np.testing.assert_array_equal(pairs.similarities(a, b, query, tile), wide)
    np.testing.assert_array_equal(pairs.similarities(a, turned, query, tile), wide)


def test_no_pairs_have_no_similarities():
    a, b, *_ = some_pairs(9)
    none = np.empty(0, dtype=np.int64)
    assert pairs.similarities(torch.from_numpy(a), torch.from_numpy(b), none, none).shape == (0,)

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


def test_greater_is_what_the_sums_say_even_one_bit_apart():
    a, b, query, tile = some_pairs(1000)
    a, b = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (a, b))
    exact = pairs.similarities(a, b, query, tile)
    for than in (
        exact,
        np.nextafter(exact, -2),
        np.nextafter(exact, 2),
        exact + 0.01,
        exact - 0.01,
    ):
        for gallery in (b, b.T.contiguous().T):
            found = pairs.greater(a, gallery, query, tile, than)
            np.testing.assert_array_equal(found, exact > than)


def test_numbers_in_order_sort_as_the_sums_do():
    a, b, *_ = some_pairs(1000)
    b[8:] = b[:9]  # twice the same: ties
    b[3] = np.nextafter(b[12], 9)  # and one bit beside
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    query, tile = (x.reshape(-1) for x in np.mgrid[:11, :17])
    exact = pairs.similarities(a, b, query, tile)
    margin = np.full(len(query), 1000 * 2.0**-50 * 40 * 40)
    found = pairs.in_order(a, b, query, tile, margin)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    order = np.lexsort((tile, -exact, query))
    np.testing.assert_array_equal(np.lexsort((tile, -found, query)), order)

"""Ranks against float64 loops, where they are easy and where ties and rounding make them hard."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vigorlib import pairs, products, retrieval, scan
from vigorlib.retrieval import ranks, search


def unit(rows: int, columns: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, columns))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def four_of(gallery: int, queries: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(gallery, 4, replace=False) for _ in range(queries)])


def similarities(ground: np.ndarray, satellite: np.ndarray) -> np.ndarray:
    """(Q, N) in float64, each pair by itself: equal tiles have equal similarities."""
    wide = satellite.astype(np.float64)
    return np.array([[(q * tile).sum() for tile in wide] for q in ground.astype(np.float64)])


def ranked_by_hand(ground, satellite, references, k):
    """Positive ranks, those without semi-positives, and the k best tiles, by plain loops."""
    table, positive, without, top = similarities(ground, satellite), [], [], []
    for row, (own, *semi) in zip(table, references, strict=True):
        better = {tile for tile in range(len(row)) if row[tile] > row[own]}
        positive.append(len(better))
        without.append(len(better - set(semi)))
        top.append(sorted(range(len(row)), key=lambda tile: (-row[tile], tile))[:k])
    top = np.array(top)
    return np.array(positive), np.array(without), top, np.take_along_axis(table, top, axis=1)


def hard_case(dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Duplicated tiles, and tiles that differ by less than a float32 dot product can tell."""
    rng = np.random.default_rng(11)
    base = unit(20, 96, 12, np.float64)
    near = np.repeat(base, 4, axis=0) + rng.normal(size=(80, 96)) * 3e-8
    satellite = np.concatenate([base, base, near, unit(31, 96, 13, np.float64)]).astype(dtype)
    satellite = satellite[rng.permutation(len(satellite))]
    ground = unit(23, 96, 14, np.float64) * 0.6 + base[rng.integers(0, 20, 23)]
    ground = (ground / np.linalg.norm(ground, axis=1, keepdims=True)).astype(dtype)
    return ground, satellite, four_of(len(satellite), 23, 15)


def assert_equals(ranking, expected):
    positive, without, top, similarity = expected
    np.testing.assert_array_equal(ranking.positive, positive)
    np.testing.assert_array_equal(ranking.without_semi_positives, without)
    np.testing.assert_array_equal(ranking.top, top)
    np.testing.assert_allclose(ranking.top_similarity, similarity, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("queries", "tiles", "width"), [(1, 4, 3), (1, 57, 8), (13, 101, 33)])
def test_ranks_equal_plain_loops_at_odd_sizes(queries, tiles, width, dtype):
    ground, satellite = unit(queries, width, 1, dtype), unit(tiles, width, 2, dtype)
    references = four_of(tiles, queries)
    expected = ranked_by_hand(ground, satellite, references, min(10, tiles))
    assert_equals(ranks(ground, satellite, references), expected)


def test_ranks_equal_float64_loops_where_float32_cannot_tell_tiles_apart():
    ground, satellite, references = hard_case()
    positive, *_ = expected = ranked_by_hand(ground, satellite, references, 12)
    assert_equals(ranks(ground, satellite, references, k=12), expected)
    plain = ground @ satellite.T  # the case is hard indeed: one matrix product gets it wrong
    own = np.take_along_axis(plain, references[:, :1], axis=1)
    best = np.argsort(-plain, axis=1, kind="stable")[:, :12]
    assert ((plain > own).sum(axis=1) != positive).any() or (best != expected[2]).any()


@pytest.mark.parametrize("block_rows", [1, 7, 1000])
def test_block_size_changes_nothing(block_rows):
    ground, satellite, references = hard_case()
    whole = ranks(ground, satellite, references, k=9)
    blocks = ranks(ground, satellite, references, k=9, block_rows=block_rows)
    for name in ("positive", "without_semi_positives", "top", "top_similarity"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))


def test_a_small_memory_budget_changes_nothing(monkeypatch):
    ground, satellite, references = hard_case()
    whole = ranks(ground, satellite, references)
    monkeypatch.setattr(products, "BLOCK_BYTES", 10)  # less than a row: still one at a time
    np.testing.assert_array_equal(ranks(ground, satellite, references).top, whole.top)


def test_the_order_of_the_gallery_changes_no_rank():
    ground, satellite, references = hard_case()
    first = ranks(ground, satellite, references)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(satellite))
        moved = np.argsort(order)[references]  # where each reference went
        again = ranks(ground, satellite[order], moved)
        np.testing.assert_array_equal(again.positive, first.positive)
        np.testing.assert_array_equal(again.without_semi_positives, first.without_semi_positives)
        np.testing.assert_array_equal(again.top_similarity, first.top_similarity)


def test_the_order_of_the_queries_changes_no_rank():
    ground, satellite, references = hard_case()
    first = ranks(ground, satellite, references)
    order = np.random.default_rng(0).permutation(len(ground))
    again = ranks(ground[order], satellite, references[order], block_rows=7)
    np.testing.assert_array_equal(again.positive, first.positive[order])
    np.testing.assert_array_equal(again.top, first.top[order])


def test_ties_favour_the_model_and_then_the_lower_index():
    ground = unit(1, 16, 3)
    satellite = np.repeat(ground, 6, axis=0)
    ranking = ranks(ground, satellite, np.array([[5, 0, 1, 2]]), k=4)
    assert ranking.positive.tolist() == [0] and ranking.without_semi_positives.tolist() == [0]
    assert ranking.top.tolist() == [[0, 1, 2, 3]]


def test_a_positive_duplicated_in_the_gallery_ranks_as_one_that_is_not():
    ground, satellite, references = unit(9, 24, 4), unit(40, 24, 5), four_of(40, 9)
    alone = ranks(ground, satellite, references)
    copies = np.concatenate([satellite, satellite[references[:, 0]]])
    with_copies = ranks(ground, copies, references)
    others = similarities(ground, satellite[references[:, 0]])
    added = (others > np.diag(others)[:, None]).sum(axis=1)  # copies of the other positives
    np.testing.assert_array_equal(with_copies.positive, alone.positive + added)


def test_semi_positives_are_left_out_of_the_second_rank_only():
    ground = np.array([[1.0, 0.0]], dtype=np.float32)
    angles = np.deg2rad([0, 10, 20, 30, 40, 50])
    satellite = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ranking = ranks(ground, satellite, np.array([[3, 0, 2, 5]]))  # 0, 1, 2 beat the positive
    assert ranking.positive.tolist() == [3]
    assert ranking.without_semi_positives.tolist() == [1]
    assert ranking.top.tolist() == [[0, 1, 2, 3, 4, 5]]
    np.testing.assert_allclose(ranking.top_similarity, [np.cos(angles)], atol=1e-7)


def test_search_finds_what_a_sort_finds():
    ground, satellite, _ = hard_case()
    for k in (1, 5, 50):
        _, _, top, similarity = ranked_by_hand(ground, satellite, four_of(4, len(ground)), k)
        for block_rows in (None, 1, 7):
            found, value = search(ground, satellite, k, block_rows)
            np.testing.assert_array_equal(found, top)
            np.testing.assert_allclose(value, similarity, rtol=0, atol=1e-14)


def test_more_tiles_than_there_are_are_all_of_them():
    found, value = search(unit(3, 8, 6), unit(5, 8, 7), k=50)
    assert found.shape == value.shape == (3, 5)
    assert (np.sort(found, axis=1) == np.arange(5)).all()
    assert (np.diff(value, axis=1) <= 0).all()


def test_tensors_and_arrays_rank_alike():
    ground, satellite, references = hard_case()
    arrays = ranks(ground, satellite, references)
    tensors = ranks(torch.from_numpy(ground), torch.from_numpy(satellite), references)
    np.testing.assert_array_equal(tensors.positive, arrays.positive)
    np.testing.assert_array_equal(tensors.top, arrays.top)


# -- ways down the ladder of precisions ------------------------------------------------------

LADDERS = [
    ("bfloat16", "float32", "float64"),
    ("float16", "float32", "float64"),
    ("bfloat16", "float64"),
    ("float64",),
]


@pytest.mark.parametrize("precisions", LADDERS)
@pytest.mark.parametrize("crowded", [16, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whatever_precision_comes_first_ranks_are_the_same(precisions, crowded, dtype, monkeypatch):
    ground, satellite, references = hard_case(dtype)
    expected = ranked_by_hand(ground, satellite, references, 12)
    monkeypatch.setattr(retrieval, "ladder", lambda *_: precisions)
    monkeypatch.setattr(scan, "CROWDED", crowded)
    assert_equals(ranks(ground, satellite, references, k=12), expected)
    np.testing.assert_array_equal(search(ground, satellite, 12)[0], expected[2])


def test_a_crowded_row_goes_on_to_the_next_precision_and_others_do_not(monkeypatch):
    satellite = unit(300, 64, 1)
    satellite[100:160] = satellite[100]  # open for whoever comes near it
    references = np.arange(44).reshape(11, 4)
    references[5, 0] = 130
    ground = 0.3 * unit(11, 64, 2) + satellite[references[:, 0]]
    ground /= np.linalg.norm(ground, axis=1, keepdims=True)
    looked_at = []

    class Noted(retrieval.Products):
        def block(self, rows):
            looked_at.append((self.precision, len(rows)))
            return super().block(rows)

    monkeypatch.setattr(retrieval, "Products", Noted)
    expected = ranked_by_hand(ground, satellite, references, 1)
    assert_equals(ranks(ground, satellite, references, k=1), expected)
    steps = dict(looked_at)
    assert steps == {"float32": 11, "float64": 1}


@pytest.mark.parametrize("k", [1, 5])
def test_a_collapsed_network_ties_everything(k, monkeypatch):
    """All descriptors are one: every pair is open in every precision."""
    ground, satellite = np.repeat(unit(1, 40, 0), 9, axis=0), np.repeat(unit(1, 40, 0), 203, axis=0)
    monkeypatch.setattr(scan, "AT_ONCE", 1)  # the list is full after every row
    ranking = ranks(ground, satellite, four_of(203, 9), k)
    assert not ranking.positive.any() and not ranking.without_semi_positives.any()
    assert (ranking.top == np.arange(k)).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_neither_threads_nor_a_short_list_change_anything(threads, monkeypatch):
    ground, satellite, references = hard_case()
    expected = ranked_by_hand(ground, satellite, references, 12)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(scan, "AT_ONCE", 30)
    assert_equals(ranks(ground, satellite, references, k=12), expected)


@pytest.mark.parametrize("precisions", LADDERS)
def test_the_gpus_way_gives_the_same_ranks(precisions, monkeypatch):
    """Its loops run on tensors, which the processor has too."""
    ground, satellite, references = hard_case()
    expected = ranked_by_hand(ground, satellite, references, 12)
    monkeypatch.setattr(retrieval, "ladder", lambda *_: precisions)
    monkeypatch.setattr(scan, "_compiled", lambda values: False)
    monkeypatch.setattr(pairs, "_compiled", lambda *_: False)
    assert_equals(ranks(ground, satellite, references, k=12), expected)


def test_tiles_left_out_are_never_found():
    ground, satellite, references = hard_case()
    left = np.where(np.arange(4) == 3, -1, references)  # the last means none
    tensors = torch.from_numpy(ground), torch.from_numpy(satellite)
    found, _ = retrieval.best(*tensors, 9, without=left)
    for row, own, table in zip(found, left, similarities(ground, satellite), strict=True):
        table[own[:3]] = -np.inf
        assert row.tolist() == sorted(range(len(table)), key=lambda t: (-table[t], t))[:9]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_ranks_as_the_processor_does():
    ground, satellite, references = hard_case()
    here = ranks(ground, satellite, references)
    there = ranks(*(torch.from_numpy(x).cuda() for x in (ground, satellite)), references)
    np.testing.assert_array_equal(there.positive, here.positive)
    np.testing.assert_array_equal(there.top, here.top)


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 2.0])
@pytest.mark.parametrize("which", ["ground", "satellite"])
def test_broken_descriptors_are_refused_with_their_row(which, value):
    descriptors = {"ground": unit(3, 8, 8), "satellite": unit(6, 8, 9)}
    descriptors[which][2] = value
    with pytest.raises(ValueError, match=f"row 2 of {which} has length .* L2-normalised"):
        ranks(**descriptors, references=four_of(6, 3))
    with pytest.raises(ValueError, match=f"row 2 of {which}"):
        search(**descriptors)


def test_a_single_nan_is_refused():
    satellite = unit(6, 8, 9)
    satellite[4, 7] = np.nan
    with pytest.raises(ValueError, match="row 4 of satellite has length nan"):
        search(unit(3, 8, 8), satellite)


def test_shapes_and_types_that_do_not_fit_are_refused():
    ground, satellite, references = unit(3, 8, 8), unit(6, 8, 9), four_of(6, 3)
    with pytest.raises(ValueError, match=r"ground has shape \(8,\)"):
        ranks(ground[0], satellite, references)
    with pytest.raises(ValueError, match="satellite has shape .* torch.int64"):
        ranks(ground, np.ones((6, 8), dtype=np.int64), references)
    with pytest.raises(ValueError, match=r"\(Q, 8\).*\(N, 9\).*same D"):
        ranks(ground, unit(6, 9, 1), references)
    with pytest.raises(ValueError, match="float32.*float16.*same D and type"):
        search(ground, satellite.astype(np.float16))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (12,), (3, 4, 1)])
def test_references_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"references has shape .* expected \(3, 4\)"):
        ranks(unit(3, 8, 8), unit(6, 8, 9), np.zeros(shape, dtype=np.int64))


@pytest.mark.parametrize("index", [-1, 6])
def test_references_outside_the_gallery_are_refused(index):
    references = four_of(6, 3)
    references[1, 2] = index
    with pytest.raises(ValueError, match="references run from .* a gallery of 6"):
        ranks(unit(3, 8, 8), unit(6, 8, 9), references)

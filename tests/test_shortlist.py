"""A rough look at every tile and an exact one at a few: a quarter of the bytes, the answers of exact search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vigorlib import ivfpq, retrieval, shortlist
from vigorlib.index import build, load


def unit(rows: int, columns: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, columns))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def close_calls(dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Duplicates, and tiles that eight bits cannot tell apart."""
    rng = np.random.default_rng(5)
    base = unit(12, 96, 6, np.float64)
    near = np.repeat(base, 9, axis=0) + rng.normal(size=(108, 96)) * 1e-5
    tiles = np.concatenate([base, base, near, unit(75, 96, 7, np.float64)])
    tiles = tiles[rng.permutation(len(tiles))]
    ground = 0.4 * unit(4, 96, 8, np.float64) + base[:4]
    return tuple(
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(dtype) for x in (ground, tiles)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 7, 50, 1000])
def test_a_quarter_finds_what_exact_search_finds(k, dtype):
    ground, tiles = close_calls(dtype)
    found, value = build(tiles, "quarter").search(ground, k)
    expected, similarity = retrieval.search(ground, tiles, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(value, similarity)


def test_the_case_is_hard_eight_bits_alone_get_it_wrong():
    ground, tiles = close_calls()
    rough = build(tiles, "quarter").rough
    alone = np.argsort([-rough.products(query) for query in ground], axis=1, kind="stable")[:, :7]
    assert (alone != retrieval.search(ground, tiles, 7)[0]).any()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("width", [1, 3, 17])
def test_odd_sizes_are_searched_alike(size, width):
    ground, tiles = unit(2, width, 1), unit(size, width, 2)
    found, value = build(tiles, "quarter").search(ground, 4)
    expected, similarity = retrieval.search(ground, tiles, 4)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(value, similarity)


def uneven(spread: float) -> np.ndarray:
    """One number of each row stands out, the others are lost in eight bits."""
    tiles = unit(60, 40, 3)
    tiles[:, 1:] *= spread
    return tiles / np.linalg.norm(tiles, axis=1, keepdims=True)


@pytest.mark.parametrize("spread", [1e-7, 1e-3, 1e-2, 0.1])
def test_numbers_too_small_for_eight_bits_are_not_lost(spread):
    tiles = uneven(spread)
    found, _ = build(tiles, "quarter").search(tiles[:3], 5)
    np.testing.assert_array_equal(found, retrieval.search(tiles[:3], tiles, 5)[0])


@pytest.mark.parametrize("tiles", [unit(300, 200, 1), uneven(1e-3), uneven(0.1), np.eye(40)])
def test_what_rounding_moves_is_known(tiles):
    rough = build(tiles.astype(np.float32), "quarter").rough
    for query in unit(5, tiles.shape[1], 4):
        off = np.abs(rough.products(query) - tiles @ query.astype(np.float64))
        assert (off <= rough.moved + 1e-6).all()
    restored = rough.values * rough.scale[:, None].astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(tiles - restored, axis=1), rough.moved, atol=1e-6)
    assert rough.moved.max() < 0.5 / 127 * np.sqrt(tiles.shape[1]) * np.abs(tiles).max() + 1e-6


def test_the_shortlist_is_short_where_tiles_differ():
    tiles = unit(5000, 512, 1)
    gallery = build(tiles, "quarter")
    query = tiles[7] + 0.5 * unit(1, 512, 2)[0]
    assert 50 <= len(gallery._listed(query / np.linalg.norm(query), 50)) < 500


def test_a_tile_that_the_main_axes_do_not_see_is_zero_not_an_error():
    tiles = np.eye(6, dtype=np.float32)[[0, 0, 0, 1, 1, 5]]
    gallery = shortlist.build(tiles, "quick", axes=2)
    assert (gallery.rough.values[5] == 0).all()
    assert gallery.search(tiles[:1], 3)[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("kind", ["quarter", "quick"])
def test_many_queries_at_once_are_compared_with_every_tile(kind):
    tiles, ground = unit(500, 24, 1), unit(shortlist.FEW + 1, 24, 2)
    found, value = build(tiles, kind).search(ground, 9)
    expected, similarity = retrieval.search(ground, tiles, 9)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(value, similarity)


def test_quick_is_exact_where_its_axes_hold_everything():
    tiles = unit(700, 12, 1) @ np.linalg.qr(unit(64, 64, 2))[0][:12].astype(np.float32)
    found, value = shortlist.build(tiles, "quick", axes=12).search(tiles[:3], 20)
    expected, similarity = retrieval.search(tiles[:3], tiles, 20)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(value, similarity)


def test_quick_similarities_are_exact_even_where_tiles_are_missed():
    ground, tiles = unit(3, 256, 1), unit(2000, 256, 2)
    found, value = shortlist.build(tiles, "quick", axes=4).search(ground, 30)
    expected, _ = retrieval.search(ground, tiles, 30)
    assert (found != expected).any()
    table = ground.astype(np.float64) @ tiles.astype(np.float64).T
    np.testing.assert_allclose(value, np.take_along_axis(table, found, axis=1), atol=1e-14)
    assert (np.diff(value, axis=1) <= 0).all()


def test_more_than_the_shortlist_can_be_asked_for():
    found, _ = build(unit(900, 16, 1), "quick").search(unit(1, 16, 2), 600)
    assert len(set(found[0].tolist())) == 600


@pytest.mark.parametrize("kind", ["quarter", "quick"])
def test_opening_a_gallery_reads_no_descriptor(kind, tmp_path, monkeypatch):
    tiles, ground = unit(500, 24, 1), unit(2, 24, 2)
    gallery = build(tiles, kind)
    gallery.save(tmp_path / "kept")
    monkeypatch.setattr(retrieval, "checked", None)
    loaded = load(tmp_path / "kept")
    assert isinstance(loaded.satellite, np.memmap) and isinstance(loaded.rough.values, np.memmap)
    monkeypatch.undo()
    np.testing.assert_array_equal(loaded.search(ground, 9)[0], gallery.search(ground, 9)[0])


@pytest.mark.parametrize("kind", ["quarter", "quick"])
def test_a_gallery_can_be_built_of_what_may_not_be_written(kind, tmp_path, recwarn):
    tiles = unit(500, 24, 1)
    np.save(tmp_path / "tiles.npy", tiles)
    mapped = np.load(tmp_path / "tiles.npy", mmap_mode="r")
    for ground in (unit(2, 24, 2), unit(9, 24, 2)):
        found, _ = build(mapped, kind).search(ground, 9)
        np.testing.assert_array_equal(found, build(tiles, kind).search(ground, 9)[0])
    assert not recwarn.list


def test_a_folder_that_was_not_finished_is_no_gallery(tmp_path, monkeypatch):
    monkeypatch.setattr(shortlist, "write_json", None)
    with pytest.raises(TypeError):
        build(unit(9, 4, 1), "quarter").save(tmp_path / "kept")
    with pytest.raises(
        ValueError, match="kept is not a saved gallery of this version: expected a folder"
    ):
        load(tmp_path / "kept")


def test_a_gallery_that_an_older_version_saved_is_refused_with_the_reason(tmp_path):
    build(unit(9, 4, 1), "quarter").save(tmp_path / "kept")
    (tmp_path / "kept" / "rough.rounding.npy").unlink()  # there was none before eight bits
    with pytest.raises(ValueError, match="kept is not a saved gallery of this version"):
        load(tmp_path / "kept")


def test_pieces_change_nothing(monkeypatch):
    tiles, ground = unit(300, 24, 1), unit(2, 24, 2)
    whole = build(tiles, "quarter")
    monkeypatch.setattr(ivfpq, "PIECE_BYTES", 24 * 4 * 7)
    pieces = build(torch.from_numpy(tiles), "quarter")
    for part in ("values", "scale", "moved"):
        np.testing.assert_array_equal(getattr(pieces.rough, part), getattr(whole.rough, part))
    np.testing.assert_array_equal(pieces.search(ground, 5)[0], whole.search(ground, 5)[0])


def test_recall_counts_tiles_whatever_their_order():
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert shortlist.recall(exact[:, ::-1], exact) == 1
    assert shortlist.recall(np.array([[1, 2, 9, 9], [0, 0, 0, 8]]), exact) == 3 / 8
    with pytest.raises(ValueError, match=r"found is \(2, 3\), exact \(2, 4\)"):
        shortlist.recall(exact[:, :3], exact)

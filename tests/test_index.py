"""Galleries in FAISS: what is exact equals exact search, what is not stays above a floor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vigorlib import index, ivfpq, retrieval
from vigorlib.ivfpq import Settings

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("exact", "quarter", "quick", "flat", "ivfpq")


def normalised(values: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def unit(rows: int, columns: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(rows, columns)), dtype)


def clustered(size: int = 1500, width: int = 32, queries: int = 100) -> tuple:
    """Queries and tiles around common centres, as trained descriptors are."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(30, width))
    tiles = centres[rng.integers(0, 30, size)] + 0.6 * rng.normal(size=(size, width))
    near = tiles[rng.integers(0, size, queries)] + 0.2 * rng.normal(size=(queries, width))
    return normalised(near), normalised(tiles)


@pytest.fixture(scope="module")
def case():
    """Queries, tiles, exact answers and the gallery of each kind."""
    pytest.importorskip("faiss", reason="FAISS is not installed: pip install '.[faiss]'")
    ground, satellite = clustered()
    exact = retrieval.search(ground, satellite, 10)
    return ground, satellite, exact, {kind: index.build(satellite, kind) for kind in KINDS}


# -- what is found ---------------------------------------------------------------------------


def test_a_flat_gallery_finds_what_exact_search_finds(case):
    ground, _, (top, similarity), galleries = case
    found, value = galleries["flat"].search(ground, 10)
    apart = np.diff(-similarity, axis=1).min(axis=1) > 1e-6  # single precision can tell these
    assert apart.mean() > 0.9
    np.testing.assert_array_equal(found[apart], top[apart])
    np.testing.assert_allclose(value, similarity, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_exact_gallery_read_in_pieces_equals_exact_search(dtype, monkeypatch):
    ground, satellite = unit(9, 24, 2, dtype), unit(83, 24, 3, dtype)
    satellite[50:60] = satellite[:10]  # ties, across pieces
    whole = retrieval.search(ground, satellite, 12)
    monkeypatch.setattr(ivfpq, "PIECE_BYTES", 24 * 7 * satellite.itemsize)  # less than k tiles
    found = index.build(satellite).search(ground, 12)
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_ivfpq_recalls_most_of_clustered_tiles(case):
    ground, _, (top, _), galleries = case
    found, _ = galleries["ivfpq"].search(ground, 10)
    assert (found[:, :1] == top[:, :1]).mean() > 0.7
    assert (found == top[:, :1]).any(axis=1).mean() > 0.95


def test_all_lists_and_lossless_codes_are_exact_search(case):
    ground, satellite, *_ = case
    tiles = satellite[: ivfpq.CENTROIDS]  # as many as centroids: every piece is its own centroid
    gallery = index.build(tiles, "ivfpq", Settings(lists=4, probes=4, width=32, code_bytes=8))
    found, value = gallery.search(ground, 10)
    top, similarity = retrieval.search(ground, tiles, 10)
    np.testing.assert_allclose(value, similarity, rtol=0, atol=1e-5)
    apart = np.diff(-similarity, axis=1).min(axis=1) > 1e-5
    assert apart.mean() > 0.8
    np.testing.assert_array_equal(found[apart], top[apart])


def test_more_probes_find_no_less(case):
    ground, _, (top, _), galleries = case
    shares = []
    for probes in (1, 4, galleries["ivfpq"].settings.lists):
        found, _ = galleries["ivfpq"].search(ground, 10, probes=probes)
        shares.append((found == top[:, :1]).any(axis=1).mean())
    assert shares == sorted(shares) and shares[0] < shares[-1]


def test_every_place_is_filled_even_where_the_probed_lists_are_short(case):
    ground, satellite, _, galleries = case
    found, value = galleries["ivfpq"].search(ground, 400, probes=1)
    assert found.min() >= 0 and np.isfinite(value).all()
    assert all(len(set(row)) == 400 for row in found)


@pytest.mark.parametrize("kind", KINDS)
def test_more_tiles_than_there_are_are_all_of_them(kind, case):
    ground, satellite, _, galleries = case
    found, value = galleries[kind].search(ground[:3], 10_000)
    assert found.shape == value.shape == (3, len(satellite))
    assert (np.sort(found, axis=1) == np.arange(len(satellite))).all()
    assert (np.diff(value, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_among_equals_the_lower_index_comes_first(kind):
    pytest.importorskip("faiss", reason="FAISS is not installed: pip install '.[faiss]'")
    satellite = np.tile(unit(64, 16, 5), (5, 1))
    found, value = index.build(satellite, kind).search(satellite[:4], 5)
    for query, (row, similarity) in enumerate(zip(found, value, strict=True)):
        equals = row[similarity == similarity[0]]
        assert (np.diff(equals) > 0).all()
        if kind != "ivfpq":
            assert set(row) == {query + 64 * i for i in range(5)}


def test_the_same_call_takes_a_kind_or_a_gallery(case):
    ground, satellite, _, galleries = case
    for kind in KINDS:
        own = galleries[kind].search(ground, 7)
        for again in (
            retrieval.search(ground, galleries[kind], 7),
            retrieval.search(ground, satellite, 7, kind=kind),
        ):
            np.testing.assert_array_equal(again[0], own[0])
            np.testing.assert_array_equal(again[1], own[1])


def test_tensors_and_arrays_are_searched_alike(case):
    ground, satellite, _, galleries = case
    for kind in KINDS:
        gallery = index.build(torch.from_numpy(satellite), kind)
        found, value = gallery.search(torch.from_numpy(ground), 5)
        np.testing.assert_array_equal(found, galleries[kind].search(ground, 5)[0])
        assert value.dtype == np.float64


# -- building --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_gallery_streamed_from_a_read_only_map_equals_one_made_at_once(
    kind, case, tmp_path, monkeypatch
):
    ground, satellite, _, galleries = case
    np.save(tmp_path / "tiles.npy", satellite)
    monkeypatch.setattr(ivfpq, "PIECE_BYTES", 32 * 4 * 111)  # 14 pieces
    mapped = np.load(tmp_path / "tiles.npy", mmap_mode="r")
    sizes = [len(piece) for _, piece in ivfpq.pieces(mapped)]
    assert max(sizes) == 111 and sum(sizes) == len(satellite)
    gallery = index.build(mapped, kind)
    found, value = gallery.search(ground, 10)
    own = galleries[kind].search(ground, 10)
    if kind == "ivfpq":  # learned from sums in another order
        assert (found[:, 0] == own[0][:, 0]).mean() > 0.9
    else:
        np.testing.assert_array_equal(found, own[0])
        np.testing.assert_array_equal(value, own[1])


def test_a_streamed_add_equals_a_one_shot_add(case, monkeypatch):
    ground, satellite, _, galleries = case
    trained = ivfpq.train(satellite)
    monkeypatch.setattr(ivfpq, "train", lambda *_: trained)
    monkeypatch.setattr(ivfpq, "PIECE_BYTES", 32 * 4 * 111)
    streamed = index.build(satellite, "ivfpq").search(ground, 10)
    for a, b in zip(streamed, galleries["ivfpq"].search(ground, 10), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_seed_decides_a_compressed_gallery(case):
    ground, satellite, _, galleries = case
    first, again, other = (
        gallery.search(ground, 10)[1]
        for gallery in (
            galleries["ivfpq"],
            index.build(satellite, "ivfpq", seed=0),
            index.build(satellite, "ivfpq", seed=1),
        )
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_training_reads_no_more_than_its_share_of_memory(case, monkeypatch):
    _, satellite, *_ = case
    read = []
    whole = ivfpq.pieces
    monkeypatch.setattr(ivfpq, "TRAINING_BYTES", 32 * 4 * 500)

    def watched(tiles, rows=None, check=True):
        read.append(len(rows))
        return whole(tiles, rows, check)

    monkeypatch.setattr(ivfpq, "pieces", watched)
    ivfpq.train(satellite)
    assert max(read) == 500


def test_a_compressed_gallery_counts_its_bytes(case, tmp_path):
    _, satellite, _, galleries = case
    assert galleries["exact"].bytes == galleries["flat"].bytes == satellite.nbytes
    galleries["ivfpq"].save(tmp_path / "gallery")
    on_disk = (tmp_path / "gallery").stat().st_size
    assert galleries["ivfpq"].bytes == pytest.approx(on_disk, rel=0.05)


@pytest.mark.parametrize("size", [256, 1_000, 90_618, 10_000_000])
@pytest.mark.parametrize("width", [3, 30, 512, 4096])
def test_default_settings_fit_and_follow_the_guidelines(size, width):
    settings = ivfpq.default_settings(size, width)
    ivfpq._require_fitting(settings, size, width)
    assert settings.code_bytes <= 64 and settings.width <= 4 * settings.code_bytes
    if size >= 90_618:
        assert 4 <= round(settings.lists / size**0.5) <= 16
    assert size / settings.lists >= 39


def test_a_large_gallery_costs_a_sliver_of_its_descriptors():
    settings = ivfpq.default_settings(10_000_000, 4096)
    assert settings.memory(10_000_000, 4096) < 4 * 4096 * 10_000_000 / 200
    assert settings.operations(10_000_000, 4096) < 4096 * 10_000_000 / 400


# -- keeping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_gallery_answers_as_before(kind, case, tmp_path):
    ground, _, _, galleries = case
    gallery = galleries[kind]
    gallery.save(tmp_path / "new" / "gallery")
    loaded = index.load(tmp_path / "new" / "gallery")
    assert (loaded.kind, len(loaded), loaded.bytes) == (kind, len(gallery), gallery.bytes)
    for a, b in zip(loaded.search(ground, 10), gallery.search(ground, 10), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["gallery"]


def test_a_file_that_is_no_gallery_is_refused(case, tmp_path):
    (tmp_path / "x").write_text("tiles")
    with pytest.raises(ValueError, match="x is not a saved gallery: expected a file"):
        index.load(tmp_path / "x")


# -- a shortlist -----------------------------------------------------------------------------


def test_a_shortlist_is_put_in_the_exact_order(case, tmp_path):
    ground, satellite, _, galleries = case
    rough, _ = galleries["ivfpq"].search(ground, 40)
    np.save(tmp_path / "tiles.npy", satellite)
    mapped = np.load(tmp_path / "tiles.npy", mmap_mode="r")
    for tiles in (satellite, torch.from_numpy(satellite), mapped):
        found, value = retrieval.rescore(ground, tiles, rough)
        table = ground.astype(np.float64) @ satellite.astype(np.float64).T
        np.testing.assert_array_equal(np.sort(found), np.sort(rough))
        assert (np.diff(value, axis=1) <= 0).all()
        np.testing.assert_allclose(value, np.take_along_axis(table, found, axis=1), atol=1e-14)


def test_the_whole_gallery_rescored_is_exact_search(case):
    ground, satellite, (top, similarity), _ = case
    everything = np.tile(np.arange(len(satellite))[::-1], (len(ground), 1))
    found, value = retrieval.rescore(ground, satellite, everything)
    np.testing.assert_array_equal(found[:, :10], top)
    np.testing.assert_array_equal(value[:, :10], similarity)


@pytest.mark.parametrize(("queries", "tile"), [(99, 0), (100, -1), (100, 1500)])
def test_a_shortlist_that_does_not_fit_is_refused(case, queries, tile):
    ground, satellite, *_ = case
    tiles = np.zeros((queries, 3), dtype=np.int64)
    tiles[0, 1] = tile
    with pytest.raises(ValueError, match=r"tiles are .* expected \(100, k\) indices .* of 1500"):
        retrieval.rescore(ground, satellite, tiles)


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 2.0])
def test_broken_descriptors_are_refused_with_their_row(kind, value, case, monkeypatch):
    ground, satellite, _, galleries = case
    broken, query = satellite[:300].copy(), ground[:3].copy()
    broken[203] = query[2] = value
    monkeypatch.setattr(ivfpq, "PIECE_BYTES", 32 * 4 * 100)
    with pytest.raises(ValueError, match="row 3 of satellite from row 200 has length"):
        index.build(broken, kind)
    with pytest.raises(ValueError, match="row 2 of ground has length"):
        galleries[kind].search(query)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_that_do_not_fit_are_refused(kind, case):
    ground, satellite, _, galleries = case
    with pytest.raises(ValueError, match=r"ground is \(Q, 9\).*\(N, 32\).*same D"):
        galleries[kind].search(unit(3, 9, 0))
    with pytest.raises(ValueError, match=r"ground has shape \(32,\)"):
        galleries[kind].search(ground[0])
    with pytest.raises(ValueError, match=r"satellite has shape \(32,\): expected \(N, D\)"):
        index.build(satellite[0], kind)
    with pytest.raises(ValueError, match=r"satellite has shape \(0, 32\)"):
        index.build(satellite[:0], kind)
    with pytest.raises(ValueError, match="k is 0: expected at least 1"):
        galleries[kind].search(ground, 0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        ValueError, match="unknown kind 'hnsw': expected one of exact, quarter, quick, flat"
    ):
        index.build(unit(5, 4, 0), "hnsw")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(lists=0, probes=0, width=32, code_bytes=8),
        Settings(lists=10, probes=11, width=32, code_bytes=8),
        Settings(lists=1501, probes=1, width=32, code_bytes=8),
        Settings(lists=10, probes=1, width=33, code_bytes=11),
        Settings(lists=10, probes=1, width=32, code_bytes=5),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, case):
    with pytest.raises(ValueError, match="does not fit 1500 tiles of 32 numbers: expected 1 <="):
        index.build(case[1], "ivfpq", settings)


def test_a_gallery_too_small_to_compress_is_refused():
    with pytest.raises(ValueError, match="gallery of 255 tiles is too small .* kind='exact'"):
        index.build(unit(255, 8, 0), "ivfpq")


@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
def test_without_faiss_the_extra_is_named_and_exact_search_works(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    ground, satellite = clustered(300)
    with pytest.raises(RuntimeError, match=r"pip install '.\[faiss\]'.*kind='exact'"):
        retrieval.search(ground, satellite, kind=kind)
    retrieval.search(ground, index.build(satellite))


def test_faiss_is_loaded_only_when_asked_for():
    code = "import sys, vigorlib.index; assert 'faiss' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_faiss_takes_as_many_threads_as_torch(case, monkeypatch):
    import faiss

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    case[3]["flat"].search(case[0][:1])
    assert faiss.omp_get_max_threads() == 3
    monkeypatch.undo()
    case[3]["flat"].search(case[0][:1])
    assert faiss.omp_get_max_threads() == torch.get_num_threads()

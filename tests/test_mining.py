"""Which pairs share a batch, and which examples the pool calls hard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vigorlib import retrieval
from vigorlib.mining import OverlapFreeBatches, Pool


@pytest.fixture
def references() -> np.ndarray:
    """A strip of overlapping 2x2 blocks: query q sees tiles around its own place on a 12x12 grid."""
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 11, (150, 2))
    steps = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    blocks = (corners[:, None] + steps) @ (12, 1)  # (Q, 4)
    return np.stack([rng.permutation(row) for row in blocks])


def test_no_two_queries_of_a_batch_share_a_tile(references):
    batches = OverlapFreeBatches(references).epoch(40, 8, np.random.default_rng(0))
    assert batches.shape == (40, 8)
    for batch in batches:
        assert len(np.unique(references[batch])) == 4 * len(batch)


def test_mined_batches_share_no_tile_either_and_hold_hard_examples(references):
    sampler = OverlapFreeBatches(references)
    far = references[:, 0][::-1][:5]
    hard = np.tile(far, (len(references), 1))
    batches = sampler.epoch(40, 8, np.random.default_rng(0), hard)
    for batch in batches:
        assert len(np.unique(references[batch])) == 4 * len(batch)
    mined = np.isin(references[batches, 0], far).any(axis=1).mean()
    plain = sampler.epoch(40, 8, np.random.default_rng(0))
    assert mined > 0.9 > np.isin(references[plain, 0], far).any(axis=1).mean()


def test_sampling_is_uniform_over_positive_tiles_not_over_queries():
    references = np.array([[0, 1, 2, 3]] * 9 + [[4, 5, 6, 7]])  # nine queries here, one there
    drawn = OverlapFreeBatches(references).epoch(4000, 1, np.random.default_rng(1))
    share = (references[drawn[:, 0], 0] == 4).mean()
    assert share == pytest.approx(0.5, abs=0.04)


def test_the_same_generator_draws_the_same_batches(references):
    sampler = OverlapFreeBatches(references)
    first, again = (sampler.epoch(5, 6, np.random.default_rng(9)) for _ in range(2))
    assert (first == again).all()


def test_an_impossible_batch_is_refused():
    references = np.array([[0, 1, 2, 3]] * 5)
    with pytest.raises(ValueError, match="smaller batch"):
        OverlapFreeBatches(references).epoch(1, 2, np.random.default_rng(0))


def test_the_pool_ranks_as_a_sort_does(references):
    generator = torch.Generator().manual_seed(0)
    pool = Pool(len(references), 144, 16)
    pool.ground = F.normalize(torch.randn(pool.ground.shape, generator=generator), dim=1)
    pool.satellite = F.normalize(torch.randn(pool.satellite.shape, generator=generator), dim=1)
    candidates = np.unique(references[:, 0])
    hard = pool.hardest(references, candidates, 7, np.random.default_rng(0), block_rows=32)
    for query, row in enumerate(hard):
        others = np.setdiff1d(candidates, references[query])
        similarity = (pool.satellite[others] @ pool.ground[query]).numpy()
        assert set(row) == set(others[np.argsort(-similarity)[:7]])


def test_a_querys_own_tiles_are_never_hard(references):
    pool = Pool(len(references), 144, 4)
    pool.update(np.arange(150), torch.ones(150, 4), np.arange(144), torch.ones(144, 4))
    hard = pool.hardest(references, np.unique(references[:, 0]), 20, np.random.default_rng(0))
    for query, row in enumerate(hard):
        assert not set(row) & set(references[query])


def test_a_pool_that_waits_before_it_copies_is_the_same_when_it_is_asked():
    rng = np.random.default_rng(0)
    steps = [(rng.permutation(9)[:3], rng.permutation(12)[:3]) for _ in range(8)]
    values = torch.randn(8, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    at_once, waiting = Pool(9, 12, 4), Pool(9, 12, 4, wait=5)
    for (queries, tiles), (ground, satellite) in zip(steps, values, strict=True):
        for pool in (at_once, waiting):
            pool.update(queries, ground, tiles, satellite)
    assert not (waiting.ground == at_once.ground).all()  # three steps still lie on the device
    for name, value in waiting.state_dict().items():
        assert (value == at_once.state_dict()[name]).all()


def test_the_pool_keeps_what_training_saw_last():
    pool = Pool(3, 3, 2)
    for value in (1.0, 2.0):
        pool.update(np.array([1]), torch.full((1, 2), value), np.array([2]), torch.ones(1, 2))
    assert pool.ground.tolist() == [[0, 0], [2, 2], [0, 0]]
    restored = Pool(3, 3, 2)
    restored.load_state_dict(pool.state_dict())
    assert (restored.ground == pool.ground).all() and (restored.satellite == pool.satellite).all()


def test_only_the_chosen_queries_are_drawn(references):
    among = np.arange(0, 150, 3)
    sampler = OverlapFreeBatches(references, among)
    drawn = sampler.epoch(30, 4, np.random.default_rng(0))
    assert np.isin(drawn, among).all()
    assert (sampler.positive_tiles == np.unique(references[among, 0])).all()


def hard_by_hand(pool: Pool, references: np.ndarray, drawn: np.ndarray, keep: int) -> np.ndarray:
    """Plain loops in float64; among equals the tile that was drawn first."""
    ground, satellite = pool.ground.double().numpy(), pool.satellite.double().numpy()
    hard = []
    for query, own in zip(ground, references, strict=True):
        scores = [((query * satellite[tile]).sum(), -place) for place, tile in enumerate(drawn)]
        order = sorted(range(len(drawn)), key=lambda place: scores[place], reverse=True)
        hard.append([drawn[place] for place in order if drawn[place] not in own][:keep])
    return np.array(hard)


@pytest.mark.parametrize("first", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize(("sample", "keep"), [(40_000, 7), (37, 30), (6, 100)])
def test_the_pool_keeps_the_same_sets_in_any_precision(
    references, first, sample, keep, monkeypatch
):
    """Tiles twice, tiles that differ by less than float32 can tell, lengths other than one, and
    queries and tiles that nobody has seen."""
    rng = np.random.default_rng(5)
    pool = Pool(len(references), 144, 40)
    tiles = rng.normal(size=(144, 40))
    tiles[72:] = tiles[:72]
    tiles[100:] += 3e-8 * rng.normal(size=(44, 40))
    pool.satellite = torch.from_numpy(tiles).float()
    pool.ground = torch.from_numpy(rng.normal(size=(len(references), 40))).float()
    pool.ground[::9], pool.satellite[::11] = 0, 0
    monkeypatch.setattr(retrieval, "ladder", lambda *_: (first, "float32", "float64"))
    candidates = np.unique(references[:, 0])
    drawn = np.random.default_rng(3).permutation(candidates)[:sample]
    hard = pool.hardest(
        references, candidates, keep, np.random.default_rng(3), sample, block_rows=64
    )
    assert (hard == hard_by_hand(pool, references, drawn, hard.shape[1])).all()


def test_a_query_not_seen_yet_gets_random_tiles(references):
    pool, candidates = Pool(len(references), 144, 8), np.unique(references[:, 0])
    one, other = (
        pool.hardest(references, candidates, 9, np.random.default_rng(seed)) for seed in (0, 1)
    )
    assert (one != other).any()
    assert all(
        len(set(row)) == 9 and not set(row) & set(own)
        for row, own in zip(one, references, strict=True)
    )


@pytest.mark.parametrize("which", ["ground", "satellite"])
def test_descriptors_that_are_not_finite_are_refused(references, which):
    pool = Pool(len(references), 144, 4)
    getattr(pool, which)[17, 2] = np.nan
    with pytest.raises(ValueError, match="descriptor of (query|tile) 17 has length nan"):
        pool.hardest(references, np.unique(references[:, 0]), 5, np.random.default_rng(0))


@pytest.mark.parametrize(("share", "mined"), [(0.25, 2), (0.5, 4), (0.75, 6)])
def test_the_mined_share_of_a_batch_is_what_was_asked_for(share, mined):
    """Queries far apart, all but ten of them hard for all: only mined members are among these."""
    references = np.arange(40_000).reshape(10_000, 4)
    hard = np.broadcast_to(references[10:, 0], (10_000, 9990))
    sampler = OverlapFreeBatches(references)
    sampler.positive_tiles = references[:10, 0]  # what is drawn at random
    batches = sampler.epoch(20, 8, np.random.default_rng(0), hard, share)
    assert ((batches >= 10).sum(axis=1) == mined).all()


def test_a_batch_of_mined_queries_only_is_refused(references):
    with pytest.raises(ValueError, match="expected 0 to less than 1"):
        OverlapFreeBatches(references).epoch(1, 4, np.random.default_rng(0), references, 1.0)

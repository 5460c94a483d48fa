"""The benchmarks run, in small; they compare in turn, and what they compare gives the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> dict:
    """The record of all benchmarks at their tiny sizes."""
    out = tmp_path_factory.mktemp("benchmarks") / "record.json"
    command = [sys.executable, str(FOLDER), "--quick", "--out", str(out)]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=place, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_every_benchmark_runs_and_says_where_and_when(quick):
    assert set(quick) >= {"ranks", "mine", "one_query", "growth"}
    for name, part in quick.items():
        assert part["quick"] and part["machine"]["cores"] >= 1 and part["machine"]["date"], name
        assert part["rows"] and all(row["case"] and row["name"] for row in part["rows"])


def test_ratios_are_to_the_quicker_product(quick):
    for name in ("ranks", "mine"):
        first = quick[name]["rows"][0]["case"]
        rows = {row["name"]: row for row in quick[name]["rows"] if row["case"] == first}
        products = [row for way, row in rows.items() if way.startswith("product")]
        assert len(products) == 2 and min(row["cpu_ratio"] for row in products) == 1
        least = min(row["cpu_s"] for row in products)
        assert rows["ours"]["cpu_ratio"] == pytest.approx(rows["ours"]["cpu_s"] / least, rel=0.01)
        assert all(row["repeats"] >= 5 for row in rows.values())


def test_candidates_take_turns_after_one_call_that_does_not_count():
    import measure

    calls = []
    candidates = {name: lambda n=name: calls.append(n) for name in "ab"}
    rows = measure.compare("x", "y", candidates, "a", repeats=3)
    assert calls == list("ab" * 4)
    assert [row.name for row in rows] == ["a", "b"] and rows[0].wall_ratio == 1


def test_peak_memory_is_what_a_call_adds():
    import measure

    def work():
        np.ones(25 * 2**20)  # 200 MB
        np.ones(2**20)

    assert 150e6 < measure.peak_bytes(work) < 400e6


def test_the_ways_that_are_compared_find_the_same():
    import made_up
    import mine
    import ranks
    import torch

    from vigorlib import retrieval
    from vigorlib.mining import Pool

    satellite = made_up.tiles(300, 48)
    ground, references = made_up.queries_near(satellite, 40)
    ours = retrieval.ranks(ground, satellite, references)
    wide = ground.astype(np.float64), satellite.astype(np.float64)
    rank, hit, top = ranks.as_released(*wide, references)
    assert (rank == ours.positive).all() and (hit == (ours.without_semi_positives == 0)).all()
    assert (np.sort(top) == np.sort(ours.top)).all()
    assert (ranks.in_single_precision(ground, satellite, references)[0].numpy() == rank).all()

    pool = Pool(1, 1, 48)
    pool.ground, pool.satellite = torch.from_numpy(ground), torch.from_numpy(satellite)
    hard = pool.hardest(references, np.arange(300), 20, np.random.default_rng(0))
    assert mine.same_sets(hard, mine.as_released(ground, satellite, references, 20)) == 1
    assert mine.same_sets(hard, mine.in_chunks(ground, satellite, references, 20)) == 1


def test_made_up_queries_lie_near_their_positives():
    import made_up

    satellite = made_up.tiles(500, 256)
    ground, references = made_up.queries_near(satellite, 60, closeness=0.5)
    np.testing.assert_allclose(np.linalg.norm(ground, axis=1), 1, atol=1e-5)
    own = (ground * satellite[references[:, 0]]).sum(axis=1)
    assert own.mean() == pytest.approx(0.5, abs=0.05)

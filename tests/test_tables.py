"""Published, recorded and fresh figures never mix."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vigorlib import runs, tables
from vigorlib.recipes import get_profile, get_recipe


def run_of(name: str, provenance: str, top1: float) -> runs.Run:
    recipe, profile = get_recipe(name), get_profile("smoke")
    metrics = dict.fromkeys(tables.MEASURES, top1)
    return runs.Run(recipe, profile, "same-area", 0, {"metrics": metrics}, provenance, None)


def test_published_figures_bear_their_certainty():
    assert tables.paper_cell("vigor", "same-area", "top1") == "41.1"
    assert tables.paper_cell("safa", "same-area", "top1") == "33.9 ?"
    assert tables.paper_cell("vigor-flatten", "same-area", "top1") == tables.DASH


def test_a_recorded_run_is_not_shown_as_a_fresh_one():
    pair = {"safa": run_of("safa", runs.RECORDED, 0.5), "vigor": run_of("vigor", runs.FRESH, 0.25)}
    table = tables.compared(pair, "same-area", ("top1",), "smoke")
    assert table["top-1", "this run"].tolist() == [tables.DASH, "25.0"]
    assert [runs.RECORDED in cell for cell in table["", "provenance"]] == [True, False]


def test_what_was_not_run_is_a_dash(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    assert tables.recorded_cell("vigor", "same-area", "top1", "mini") == tables.DASH


def test_recorded_cells_are_means_over_seeds(monkeypatch):
    records = [
        {"recipe": {"name": "safa"}, "protocol": "same-area", "metrics": {"top1": share}}
        for share in (0.1, 0.2)
    ]
    monkeypatch.setattr(tables, "recorded_runs", lambda profile: records)
    assert tables.recorded_cell("safa", "same-area", "top1", "mini") == "15.0 (2)"


def test_measured_tables_are_percentages():
    table = tables.measured({"safa": run_of("safa", runs.LOCAL, 0.125)}, ("top1", "hit_rate"))
    assert table.loc["SAFA", "top-1"] == "12.5"
    with pytest.raises(KeyError):
        tables.measured({"safa": run_of("safa", runs.LOCAL, 0.1)}, ("nonsense",))


def test_methods_of_others_stand_in_a_table_of_their_own():
    table = tables.other_published("same-area")
    assert {"TransGeo", "Sample4Geo"} <= set(table.index)
    assert not set(tables.PUBLISHED_AS.values()) & set(table.index)
    assert (table["source"] != "").all() and tables.DASH in table.to_numpy()


@pytest.fixture
def answered(monkeypatch):
    """Runs whose answers are given: ranks of 400 queries."""
    ranks: dict[str, np.ndarray] = {}
    monkeypatch.setattr(runs.Run, "arrays", lambda run: {"rank": ranks[run.recipe.name]})

    def make(name: str, rank: np.ndarray) -> runs.Run:
        ranks[name] = rank
        return run_of(name, runs.LOCAL, float((rank < 1).mean()))

    return make


def test_a_difference_inside_its_interval_is_called_none(answered):
    rank = np.arange(400) % 5
    safa = answered("safa", rank)
    same = tables.verdict(answered("vigor", np.roll(rank, 1)), safa)
    assert same.endswith(": none") and "+0.0 points" in same
    better = tables.verdict(answered("vigor", np.minimum(rank, rank % 4)), safa)
    assert "+20.0 points" in better and not better.endswith("none")


def test_bare_records_are_compared_by_their_intervals():
    def record(name: str, low: float, high: float) -> runs.Run:
        run = run_of(name, runs.RECORDED, low)
        run.record["metrics"]["intervals"] = {"top1": [low, high]}
        run.record["name"] = name
        return run

    apart = tables.verdict(record("vigor", 0.3, 0.4), record("safa", 0.1, 0.2))
    assert "intervals apart" in apart
    overlap = tables.verdict(record("vigor", 0.3, 0.4), record("safa", 0.35, 0.5))
    assert "no difference shown" in overlap


def test_a_table_is_the_same_text_each_time_and_escapes_what_it_holds():
    table = pd.DataFrame({"a": ["x < y & z"], "b": [1]})
    assert tables.wrapped(table) == tables.wrapped(table.copy())
    assert "x &lt; y &amp; z" in tables.wrapped(table)

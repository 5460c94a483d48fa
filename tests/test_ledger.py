"""The ledger: entries with reasons or effects, and effects that are computed and not told."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vigorlib import ablations, effects, evaluation, figures, ledger, retrieval
from vigorlib.dataset import Vigor
from vigorlib.evidence import Evidence, Finding
from vigorlib.recipes import get_recipe
from vigorlib.retrieval import Ranking

ENTRIES = {entry.key: entry for entry in ledger.ENTRIES}


@pytest.fixture(scope="module")
def data(city_root):
    return Vigor(city_root, "same-area", "test")


@pytest.fixture(scope="module")
def ranking(data):
    """By descriptors of chance."""
    drawn = torch.randn(len(data) + len(data.tiles), 8, generator=torch.Generator().manual_seed(0))
    rows = F.normalize(drawn, dim=1)
    return retrieval.ranks(rows[: len(data)], rows[len(data) :], data.references)


def test_entries_are_unique_and_belong_to_a_group():
    assert len(ENTRIES) == len(ledger.ENTRIES)
    assert {entry.group for entry in ledger.ENTRIES} == set(ledger.GROUPS)


def test_trained_entries_name_runs_of_the_grid():
    wanted = {(j.recipe, j.protocol, j.profile) for j in ablations.jobs("mini")}
    for entry in ledger.ENTRIES:
        if entry.recipe:
            profile = ablations.short("mini") if entry.brief else "mini"
            for recipe in (entry.recipe, entry.base):
                assert get_recipe(recipe) and (recipe, entry.protocol, profile) in wanted


def test_every_recipe_made_for_the_ledger_is_in_it():
    used = {entry.recipe for entry in ledger.ENTRIES}
    assert {*ablations.DISAGREEMENTS, *ablations.CROSS_DISAGREEMENTS} <= used


def test_a_missing_run_is_a_dash_with_its_command(city_root, tmp_path, monkeypatch):
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    found = ledger.trained_effects(Evidence("smoke", str(city_root)))
    assert {e.entry for e in found} == {e.key for e in ledger.ENTRIES if e.recipe}
    assert all("python -m vigorlib grid" in str(e) and e.finding is None for e in found)
    assert ledger.picture(found).empty


def test_an_effect_inside_its_interval_is_called_none():
    shown = ledger.Effect("ties", "top-1", Finding(0.3, -0.1, 0.7))
    assert str(shown) == "top-1 +0.3 points (-0.1 to +0.7): none shown" and not shown.differs
    exact = ledger.Effect("ties", "top-1", Finding(0, 0, 0))
    assert str(exact) == "top-1 +0.0 points: none"
    assert ledger.Effect("ties", "top-1", Finding(-0.3, -0.7, -0.1)).differs


def test_a_table_has_a_row_an_entry_and_reasons_behind_dashes():
    for group in ledger.GROUPS:
        table = ledger.rows([], group)
        assert len(table) == sum(entry.group == group for entry in ledger.ENTRIES)
    losses = ledger.rows([ledger.Effect("sign", "loss", None, "seen")], "losses")
    cell = losses.set_index("").loc["sign in Eq. 1", "effect"]
    assert cell.startswith("seen (not trained")


def test_the_picture_has_the_largest_effect_first():
    made = [
        ledger.Effect("ties", "top-1", Finding(0.1, 0, 0.2)),
        ledger.Effect("pool", "top-1", Finding(-2, -3, -1), trained=True),
        ledger.Effect("diagonal", "loss", None, "no share of queries"),
    ]
    table = ledger.picture(made)
    assert list(table["way"]) == ["pool described afresh", "ties count against the model"]
    assert list(table["differs"]) == [True, False]


def test_the_figure_is_drawn_with_and_without_effects(no_trace):
    made = [ledger.Effect("ties", "top-1", Finding(0.1, 0, 0.2))]
    axes = figures.effects(ledger.picture(made), 0.5, "note").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "ties count against the model (top-1)"
    ]
    assert "points" in axes.get_xlabel()
    assert figures.effects(ledger.picture([])).axes


# -- effects ---------------------------------------------------------------------------------


def test_hit_rates_differ_as_the_metrics_do(data, ranking):
    metrics = evaluation.retrieval_metrics(ranking, len(data.tiles), data.references)
    wanted = 100 * (metrics["hit_rate_covering"] - metrics["hit_rate"])
    assert effects.hit_rates(ranking, data.references).finding.value == pytest.approx(wanted)


def test_the_rules_of_top_percent_differ_as_the_metrics_do(data, ranking):
    metrics = evaluation.retrieval_metrics(ranking, len(data.tiles), data.references)
    wanted = 100 * (metrics["top1pct_floor"] - metrics["top1pct"])
    found = effects.top_percent_rules(ranking, len(data.tiles)).finding
    assert found.value == pytest.approx(wanted) and found.value <= 0


def test_a_tie_for_the_first_place_is_lost_when_it_counts_against_the_model():
    top = np.array([[0, 1], [1, 0]])
    tied = Ranking(np.zeros(2, int), np.zeros(2, int), top, np.array([[0.9, 0.9], [0.9, 0.8]]))
    assert effects.ties(tied, 100).finding.value == -50


def test_a_network_that_calls_all_images_alike_is_perfect_by_the_released_rule():
    assert effects.constant_network(50) == 1.0


def test_reading_offsets_by_the_same_system_changes_nothing(data):
    original = Vigor(data.root, "same-area", "test", labels="original")
    found = effects.readings(original, data.references[:, 0], np.full((len(data), 2), 50.0))
    assert found.finding.value == found.finding.low == found.finding.high == 0


def test_distances_name_points_that_have_none(data):
    tiles, offsets = data.references[:, 0], np.zeros((len(data), 2))
    effect = effects.distances(data, tiles, offsets)
    assert "arccos is NaN for 0 answers" in effect.text
    assert abs(effect.finding.value) < 5


def test_the_window_around_a_fix_is_right_in_new_york_only():
    text = str(effects.longitude_constant())
    assert "NewYork +0%" in text and "Seattle -11%" in text


def test_red_is_shifted_and_nothing_else():
    images = torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    seen = effects.brighter_red(lambda batch: batch, -0.08)(images)
    assert torch.allclose(seen[:, 0], torch.tensor(6.92)) and (seen[:, 1:] == 7).all()


def test_the_diagonal_adds_its_constant_and_no_gradient():
    text = str(effects.diagonal(16))
    assert text.count(f"{math.log(2) / 15:.4f}") == 2
    assert float(text.rsplit(" ", 1)[1]) < 1e-12


def test_exp_overflows_in_half_precision_and_softplus_does_not():
    assert "half precision: exp inf, softplus 40; single precision: exp 40" in str(
        effects.overflow()
    )


def test_corrected_labels_made_from_positions_are_those_of_the_files(data):
    assert np.array_equal(effects.label_offsets_by(data, "corrected"), data.offsets_px)


def test_unused_tiles_are_those_no_label_names(city_root, data):
    train = Vigor(city_root, "same-area", "train")
    named = {*train.references.ravel().tolist(), *data.references.ravel().tolist()}
    share = 1 - len(named) / len(data.tiles)
    assert f"{share:.1%}" in effects.unused_tiles(train, data).text


def test_halving_is_the_same_by_area_and_bilinearly():
    picture = np.random.default_rng(0).integers(0, 256, (640, 1280, 3), dtype=np.uint8)
    rank = np.array([0, 3])
    text = effects.resizing(rank, rank, picture).text
    assert "differs by 0." in text
    uneven = np.random.default_rng(0).integers(0, 256, (1024, 2048, 3), dtype=np.uint8)
    assert "differs by 0." not in effects.resizing(rank, rank, uneven).text

"""The questions put to VIGOR: one change at a time, intervals everywhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vigorlib import ablations, runs
from vigorlib.recipes import RECIPES, get_profile, get_recipe

NAMES = ("name", "title")


def changed(recipe: str, base: str = "vigor") -> set[str]:
    one, other = get_recipe(recipe), get_recipe(base)
    fields = {f.name for f in dataclasses.fields(one)} - set(NAMES)
    return {name for name in fields if getattr(one, name) != getattr(other, name)}


@pytest.mark.parametrize("question", ablations.QUESTIONS, ids=lambda q: q.name)
def test_the_rows_of_a_question_differ_from_its_base_in_one_thing(question):
    assert question.base in question.rows
    together = {"aggregator", "heads"}  # the flatten head has the report's four
    for row in question.rows:
        difference = changed(row, question.base)
        assert (row == question.base) == (difference == set())
        assert len(difference) <= 1 or difference == together, row


def test_every_variant_is_asked_about_and_trained_once():
    wanted = ablations.jobs("mini")
    assert len(wanted) == len(set(wanted))
    assert {job.recipe for job in wanted} == set(RECIPES)


def test_main_rows_have_two_seeds_and_both_protocols():
    main = [j for j in ablations.jobs("mini") if j.profile == "mini" and j.recipe == "safa"]
    assert {(j.protocol, j.seed) for j in main} == {
        (area, seed) for area in ("same-area", "cross-area") for seed in (0, 1)
    }


def test_short_runs_see_the_same_city_and_network():
    short, mini = get_profile(ablations.short("mini")), get_profile("mini")
    free = {"name", "epochs", "mining_from_epoch"}
    for field in dataclasses.fields(mini):
        same = getattr(short, field.name) == getattr(mini, field.name)
        assert same != (field.name in free), field.name
    assert ablations.short("full") == "full"


@pytest.fixture(scope="module")
def found(city_root, tmp_path_factory):
    """Two of three rows of a question, trained in smoke."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("vigor", "vigor-alpha-5"):
            runs.load_or_train(name, "smoke", data_root=city_root, progress=False)
        (question,) = (q for q in ablations.QUESTIONS if q.name == "alpha")
        return ablations.found(question, "smoke", str(city_root))


def test_only_what_was_trained_is_found(found):
    assert list(found) == ["vigor-alpha-5", "vigor"]


def test_shares_are_those_of_the_records(found):
    table = ablations.shares(found)
    top1 = table[table["outcome"] == "top-1 (%)"].set_index("recipe")["share"]
    for name, run in found.items():
        assert top1[name] == pytest.approx(100 * run.metrics["top1"])
    assert (table["low"] <= table["share"]).all() and (table["share"] <= table["high"]).all()


def test_a_difference_counts_only_outside_its_interval(found):
    table = ablations.differences(found, "vigor")
    assert set(table["recipe"]) == {"vigor-alpha-5"} and len(table) == len(ablations.OUTCOMES)
    outside = (table["low"] > 0) | (table["high"] < 0)
    assert (table["differs"] == outside).all()
    itself = ablations.differences({"vigor": found["vigor"], "twin": found["vigor"]}, "vigor")
    assert np.allclose(itself["difference"], 0) and not itself["differs"].any()


def test_differences_from_a_run_that_is_not_there_are_refused(found):
    with pytest.raises(ValueError, match="no run of 'safa' among vigor-alpha-5, vigor"):
        ablations.differences(found, "safa")

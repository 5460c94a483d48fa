"""Numbers from runs, and what is said when a run is not there."""

from __future__ import annotations

import numpy as np
import pytest

from vigorlib import runs
from vigorlib.evidence import OUTCOMES, Evidence, Finding, Missing, share_of


@pytest.fixture(scope="module")
def evidence(city_root, tmp_path_factory):
    """Of a smoke city where VIGOR was trained, with the heading known and not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("vigor", "vigor-any-heading"):
            runs.load_or_train(name, "smoke", data_root=city_root, progress=False)
        yield Evidence("smoke", str(city_root))


def test_a_share_is_that_of_the_record(evidence):
    run = runs.find("vigor", "smoke", data_root=evidence.data_root)
    names = {"top-1": "top1", "hit rate": "hit_rate", "within 10 m": "within_10m"}
    for outcome, metric in names.items():
        finding = evidence.share("vigor", outcome)
        assert finding.value == pytest.approx(100 * run.metrics[metric])
        assert finding.low <= finding.value <= finding.high


def test_a_difference_is_that_of_the_shares_and_turns_with_them(evidence):
    one, other = ("vigor", "top-5"), ("vigor-any-heading", "top-5")
    forth, back = evidence.difference(one, other), evidence.difference(other, one)
    gap = evidence.share(*one).value - evidence.share(*other).value
    assert forth.value == pytest.approx(gap) and back.value == pytest.approx(-gap)
    itself = evidence.difference(one, one)
    assert itself.value == itself.low == itself.high == 0


def test_every_outcome_can_be_told_from_a_new_run(evidence):
    for outcome in OUTCOMES:
        assert 0 <= evidence.share("vigor", outcome).value <= 100


def test_a_run_that_is_not_there_is_missing_with_its_command(evidence):
    with pytest.raises(Missing, match="python -m vigorlib grid --profile smoke"):
        evidence.share("safa", "top-1")
    with pytest.raises(Missing, match="no answers here"):
        evidence.between_protocols("vigor", "top-1")


def test_a_measurement_younger_than_the_run_asks_for_an_evaluation(evidence, monkeypatch):
    monkeypatch.setitem(OUTCOMES, "younger", lambda answers: answers["not_measured_then"] < 1)
    with pytest.raises(Missing, match="vigorlib evaluate --store --recipe vigor"):
        evidence.share("vigor", "younger")


def test_the_ratio_is_to_the_best_of_the_others(evidence):
    rivals = ("vigor", "vigor-any-heading")
    finding = evidence.ratio("vigor", rivals, "top-10", "same-area")
    shares = {name: evidence.share(name, "top-10").value for name in rivals}
    assert finding.value == pytest.approx(shares["vigor"] / max(shares.values()))
    assert finding.low <= finding.value <= finding.high


def test_findings_print_their_unit_and_no_interval_where_there_is_none():
    assert str(Finding(1.24, -0.5, 3, "points")) == "+1.2 points (-0.5 to +3.0)"
    assert str(Finding(2, 2, 2, "")) == "2.00"
    assert str(share_of(np.array([True, True]))) == "100.0 %"

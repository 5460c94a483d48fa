"""A claim is judged by the interval, and only by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigorlib import claims
from vigorlib.claims import LESS, MORE, NO, OPEN, YES, Expected
from vigorlib.evidence import Evidence, Finding, Missing

BOOK = Path(__file__).parents[1] / "book"


def finding(low: float, high: float) -> Finding:
    return Finding((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        (MORE, 0.1, 2, YES),
        (MORE, -2, -0.1, NO),
        (MORE, -1, 1, OPEN),
        (MORE, 0, 1, OPEN),  # zero is no improvement
        (MORE, -1, 0, NO),
        (MORE, 0, 0, OPEN),
        (LESS, -2, -0.1, YES),
        (LESS, 0.1, 2, NO),
        (LESS, 0, 0, OPEN),
        (Expected(3, 5), 3, 5, YES),
        (Expected(3, 5), 4.3, 5.3, OPEN),
        (Expected(3, 5), 5.1, 6, NO),
        (Expected(3, 5), 1, 9, OPEN),
        (Expected(100, 100), 100, 100, YES),
        (Expected(100, 100), 99, 99.9, NO),
    ],
)
def test_a_claim_holds_only_if_the_whole_interval_says_so(expected, low, high, verdict):
    assert expected.verdict(finding(low, high)) == verdict


def test_the_opposite_claim_gets_the_opposite_verdict():
    turned = {YES: NO, NO: YES, OPEN: OPEN}
    for low, high in ((0.5, 1), (-1, -0.5), (-0.5, 1)):
        assert LESS.verdict(finding(low, high)) == turned[MORE.verdict(finding(low, high))]


def test_an_interval_that_is_none_is_refused():
    for low, high in ((float("nan"), 1), (1, -1)):
        with pytest.raises(ValueError, match="expected two finite ends in order"):
            MORE.verdict(finding(low, high))


def test_a_claim_without_a_measure_says_why():
    for claim in claims.all_claims():
        assert claim.measure is not None or claim.reason, claim.text
    texts = [claim.text for claim in claims.all_claims()]
    assert len(set(texts)) == len(texts)


def test_published_figures_that_nobody_checked_carry_a_question_mark():
    by_text = {claim.text: claim.published for claim in claims.all_claims()}
    assert by_text["SAFA finds more than the Siamese network, same-area"] == "33.9 ? / 18.1 ?"
    assert by_text["A ResNet is slightly better than VGG, same-area"] == "41.9 / 41.1"
    doubled = "VIGOR more than doubles the best baseline within 10 m, same-area"
    assert by_text[doubled] == "2.24 times"


def test_without_runs_only_the_labels_answer(city_root, tmp_path, monkeypatch):
    made = claims.all_claims()  # published figures come with the project
    monkeypatch.setattr(claims, "all_claims", lambda: made)
    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    table = claims.table(Evidence("smoke", str(city_root))).set_index("claim")
    assert table.loc["At most two positive panoramas a tile", "holds"] == YES
    assert table.loc["Semi-positives have an IOU in [0.14, 0.39]", "holds"] == NO
    row = table.loc["Offset regression beats classification"]
    assert (row["here"], row["holds"]) == ("—", "—")
    assert "python -m vigorlib grid --profile smoke" in row["on, or why not"]


def test_the_least_of_several_numbers_is_judged():
    def constant(low: float, high: float) -> claims.Measure:
        return lambda evidence: finding(low, high)

    measure = claims.least([constant(1, 2), constant(-2, -1), constant(0, 3)])
    assert measure(Evidence("smoke")).value == -1.5

    def absent(evidence: Evidence) -> Finding:
        raise Missing("not trained")

    with pytest.raises(Missing):
        claims.least([constant(1, 2), absent])(Evidence("smoke"))

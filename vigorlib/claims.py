"""What the paper and the report claim, where it is tested, and whether it holds, by an interval.

A claim expects a number to lie somewhere; a finding is a number with a 95 % interval. Whether the
claim holds is computed from the two, never written down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vigorlib.evidence import Evidence, Finding, Missing, share_of
from vigorlib.geometry import covers, tile_iou
from vigorlib.ledger import number
from vigorlib.tables import DASH, PUBLISHED_AS, paper_cell, published

YES, NO, OPEN, UNTESTED = "yes", "no", "not shown", "cannot be tested here"


@dataclass(frozen=True)
class Expected:
    """Where a claim expects its number: from low to high, ends included unless ``strictly``."""

    low: float = -np.inf
    high: float = np.inf
    strictly: bool = False

    def verdict(self, finding: Finding) -> str:
        """``yes``: the whole interval lies there; ``no``: none of it does; ``not shown``: a part."""
        a, b = finding.low, finding.high
        if not (np.isfinite(a) and np.isfinite(b) and a <= b):
            raise ValueError(f"an interval from {a} to {b}: expected two finite ends in order")
        if self.strictly:
            inside, outside = a > self.low and b < self.high, b <= self.low or a >= self.high
            if a == b in (self.low, self.high):
                return OPEN  # exactly no difference is not the opposite
        else:
            inside, outside = a >= self.low and b <= self.high, b < self.low or a > self.high
        return YES if inside else NO if outside else OPEN


MORE, LESS = Expected(low=0, strictly=True), Expected(high=0, strictly=True)
ALL = Expected(100, 100)
Measure = Callable[[Evidence], Finding]


@dataclass(frozen=True)
class Claim:
    """source: whose. published: their figure. chapter: the notebook that tests it.

    measure: of our runs and data, None where we cannot; reason: why not, or what to bear in mind.
    """

    text: str
    source: str
    published: str
    chapter: str
    expected: Expected = MORE
    measure: Measure | None = None
    reason: str = ""


def table(evidence: Evidence) -> pd.DataFrame:
    """A row a claim. Where a run is missing: a dash, and the command that makes it."""
    rows = []
    for claim in all_claims():
        figure, basis, holds = DASH, claim.reason, UNTESTED
        if claim.measure is not None:
            try:
                finding = claim.measure(evidence)
            except Missing as missing:
                basis, holds = str(missing), DASH
            else:
                figure, holds = str(finding), claim.expected.verdict(finding)
                basis = finding.basis + (f"; {claim.reason}" if claim.reason else "")
        where = number(claim.chapter) if claim.chapter else DASH
        rows.append((claim.text, claim.source, where, claim.published, figure, holds, basis))
    columns = ["claim", "source", "chapter", "published", "here", "holds", "on, or why not"]
    return pd.DataFrame(rows, columns=columns)


# -- kinds of measure ------------------------------------------------------------------------


def better(
    one: str, other: str, outcome: str = "top-1", protocol: str = "same-area", brief: bool = False
) -> Measure:
    """A recipe less another by the same outcome."""
    return lambda e: e.difference((one, outcome), (other, outcome), protocol, brief)


def more_by(one: str, other: str, recipe: str = "vigor") -> Measure:
    """An outcome less another of the same recipe."""
    return lambda e: e.difference((recipe, one), (recipe, other))


BASELINES = ("siamese", "safa", "safa-mining")


def times_the_best_baseline(protocol: str) -> Measure:
    """How many times as often VIGOR is within 10 m as the best baseline."""
    return lambda e: e.ratio("vigor", BASELINES, "within 10 m", protocol)


def over_the_best_baseline(outcome: str, protocol: str) -> Measure:
    """VIGOR less the strongest baseline by this outcome."""

    def measure(evidence: Evidence) -> Finding:
        shares = {b: evidence.share(b, outcome, protocol).value for b in BASELINES}
        best = max(shares, key=lambda name: shares[name])
        return evidence.difference(("vigor", outcome), (best, outcome), protocol)

    return measure


def least(measures: list[Measure]) -> Measure:
    """The smallest of several numbers, for a claim that is made of all of them."""
    return lambda e: min((measure(e) for measure in measures), key=lambda f: f.value)


def covered_by_four(evidence: Evidence) -> Finding:
    """Queries that lie on all four of their tiles by the profile's labels."""
    on_tile = covers(evidence.data("test").offsets_px)  # (Q, 4)
    return share_of(np.asarray(on_tile.all(axis=1)))


def positives_above(evidence: Evidence) -> Finding:
    """Positives with an IOU of at least 9/23."""
    iou = np.asarray(tile_iou(evidence.data("test").offsets_px[:, 0]))
    return share_of(iou >= 9 / 23)


def semi_positives_between(evidence: Evidence) -> Finding:
    """Semi-positives with an IOU from 1/7 to 9/23; their queries are drawn anew."""
    iou = tile_iou(evidence.data("test").offsets_px[:, 1:])
    return share_of(((iou >= 1 / 7) & (iou <= 9 / 23)).mean(axis=1))


def positives_a_tile(evidence: Evidence) -> Finding:
    """The largest number of panoramas, train and test, that a tile is the positive of."""
    train, test = evidence.data("train"), evidence.data("test")
    positives = np.concatenate([train.references[:, 0], test.references[:, 0]])
    most = float(np.bincount(positives).max())
    return Finding(most, most, most, "", f"{len(test.tiles):,} tiles")


def unused(evidence: Evidence) -> Finding:
    """Tiles that no balanced label names."""
    train, test = evidence.data("train"), evidence.data("test")
    named = np.union1d(train.references, test.references)
    return share_of(~np.isin(np.arange(len(test.tiles)), named), "tiles")


# -- the claims ------------------------------------------------------------------------------


def _pair(one: str, other: str, measure: str = "top1", protocol: str = "same-area") -> str:
    return f"{paper_cell(one, protocol, measure)} / {paper_cell(other, protocol, measure)}"


def _metres(recipe: str, protocol: str) -> float:
    """Published share within 10 m in percent, of the best baseline for an empty recipe."""
    table = published()
    method = PUBLISHED_AS.get(recipe, "Best baseline")
    row = (table["method"] == method) & (table["setting"] == protocol)
    return float(table[row & (table["metric"] == "within_10m")]["value"].iloc[0])


_PHOTOS = "real photographs only"
_MADE = "the embedded city is made to agree, so it can say nothing about VIGOR"


def _of_both_protocols() -> list[Claim]:
    """Claims made of the same-area and of the cross-area protocol."""
    claims = []
    for area in ("same-area", "cross-area"):
        claims += [
            Claim(f"SAFA finds more than the Siamese network, {area}", "paper",
                  _pair("safa", "siamese", protocol=area), "06_retrieval", MORE,
                  better("safa", "siamese", protocol=area)),
            Claim(f"Global mining improves the baseline, {area}", "paper",
                  _pair("safa-mining", "safa", protocol=area), "06_retrieval", MORE,
                  better("safa-mining", "safa", protocol=area)),
            Claim(f"VIGOR, with the hybrid loss, finds more than the best baseline, {area}",
                  "paper, report", _pair("vigor", "safa-mining", protocol=area), "06_retrieval",
                  MORE, over_the_best_baseline("top-1", area)),
            Claim(f"VIGOR places more within 10 m than the best baseline, {area}",
                  "paper, report", f"{_metres('vigor', area)} / {_metres('', area)}",
                  "07_metre_level", MORE, over_the_best_baseline("within 10 m", area)),
            Claim(f"VIGOR more than doubles the best baseline within 10 m, {area}",
                  "paper, report", f"{_metres('vigor', area) / _metres('', area):.2f} times",
                  "07_metre_level", Expected(low=2, strictly=True), times_the_best_baseline(area)),
            Claim(f"The hit rate is above top-1, {area}", "paper",
                  f"{paper_cell('vigor', area, 'hit_rate')} / {paper_cell('vigor', area, 'top1')}",
                  "06_retrieval", MORE,
                  lambda e, area=area: e.difference(  # type: ignore[misc]
                      ("vigor", "hit rate"), ("vigor", "top-1"), area)),
            Claim(f"A ResNet is slightly better than VGG, {area}", "report",
                  _pair("vigor-resnet", "vigor", protocol=area), "06_retrieval", MORE,
                  better("vigor-resnet", "vigor", protocol=area),
                  "ours has SAFA, the report's flattens"),
        ]  # fmt: skip
    return claims


def all_claims() -> tuple[Claim, ...]:
    """Every claim that can be put to a test, and those that cannot, with the reason."""
    return (
        Claim("Four tiles cover any query", "paper, report", "every query",
              "02_sampling_geometry", ALL, covered_by_four,
              "by labels with true resolutions; the grid was laid with 0.114 m a pixel"),
        Claim("Positives have an IOU above 0.39", "paper, report", "all", "02_sampling_geometry",
              ALL, positives_above, "as above"),
        Claim("Semi-positives have an IOU in [0.14, 0.39]", "paper, report", "all",
              "02_sampling_geometry", ALL, semi_positives_between,
              "up to 3/5 follows from the geometry alone"),
        Claim("At most two positive panoramas a tile", "paper, report", "2",
              "02_sampling_geometry", Expected(0, 2), positives_a_tile),
        Claim("About 4 % of the tiles cover no panorama", "paper, report", "about 4",
              "01_what_is_vigor", Expected(3, 5), unused,
              "tiles in no balanced label, taken as 3 to 5 %; " + _MADE),
        Claim("Panoramas lie about 30 m apart", "paper, report", "30 m", "01_what_is_vigor",
              reason=_MADE),
        *_of_both_protocols(),
        Claim("Cross-area is much harder than same-area", "paper",
              f"{paper_cell('vigor', 'same-area', 'top1')} / "
              f"{paper_cell('vigor', 'cross-area', 'top1')}",
              "06_retrieval", MORE, lambda e: e.between_protocols("vigor", "top-1")),
        Claim("A ResNet improves every measure (here: the least of six)", "report",
              _pair("vigor-resnet", "vigor", "top1pct", "cross-area") + " (top-1 %, cross-area)",
              "06_retrieval", MORE,
              least([better("vigor-resnet", "vigor", outcome, area)
                     for outcome in ("top-1", "top-5", "top-10")
                     for area in ("same-area", "cross-area")]),
              "one of the report's own figures falls"),
        Claim("Semi-positives taken for positives hurt retrieval", "paper, report", DASH,
              "10_ablations", LESS,
              better("vigor-semi-positive", "vigor-semi-ignored", brief=True),
              "against ignoring them"),
        Claim("IOU-based assignment beats ignoring semi-positives", "paper", DASH, "10_ablations",
              MORE, better("vigor", "vigor-semi-ignored", brief=True)),
        Claim("... beats taking them for positives", "paper", DASH, "10_ablations", MORE,
              better("vigor", "vigor-semi-positive", brief=True)),
        Claim("... beats taking them for negatives", "paper", DASH, "10_ablations", MORE,
              better("vigor", "vigor-semi-negative", brief=True)),
        Claim("The offset refines the position on the tile", "paper, report", DASH,
              "07_metre_level", MORE,
              more_by("within 10 m", "within 10 m by the centre"), "the tile as retrieved"),
        Claim("Learning the offset beats not learning it", "paper", DASH, "10_ablations", MORE,
              better("vigor", "vigor-no-offset", "within 10 m", brief=True)),
        Claim("Offset regression beats classification", "paper", DASH, "10_ablations", MORE,
              better("vigor", "vigor-offset-classes", "within 10 m", brief=True)),
        Claim("Without hard examples training converges badly", "paper, report", DASH,
              "10_ablations", MORE, better("vigor", "vigor-no-mining", brief=True),
              "in the full method, trained short"),
        Claim("Known heading is a substantial gain for SAFA", "paper, report", DASH,
              "10_ablations", MORE, better("vigor", "vigor-any-heading", brief=True),
              "the sign is tested, not how substantial"),
        Claim("Search around a noisy GPS fix is easier", "paper", DASH, "10_ablations", MORE,
              more_by("top-1 near a GPS fix", "top-1")),
        Claim("The PyTorch code reaches the original's figures", "report", "41.07 / 41.1", "",
              reason="needs VIGOR's photographs and days on a GPU: profile full"),
        Claim("A polar transform does not apply", "paper, report", DASH, "",
              reason="an argument, no measurement: it needs centred queries"),
        Claim("On one-to-one data top-1 exceeds 80 %", "paper, report", "above 80", "",
              reason="other data sets"),
        Claim("GPS labels are of industrial grade", "paper, report", DASH, "",
              reason=_PHOTOS + ": the embedded city's positions are exact"),
        Claim("The network attends to roads, road marks and trees", "paper", "? (from memory)",
              "11_what_the_network_sees", reason=_PHOTOS),
    )  # fmt: skip

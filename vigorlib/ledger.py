"""Paper against code: every disagreement, what each side says, our option, and its measured effect.

The entries are data. Their effects come from :mod:`vigorlib.effects` (the same
network, counted or computed another way) or from runs that were trained the other way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigorlib.evaluation import paired_difference
from vigorlib.evidence import Evidence, Finding, Missing
from vigorlib.recipes import get_recipe
from vigorlib.tables import DASH

GROUPS = ("training", "network", "losses", "evaluation", "data and labels", "explanation")


@dataclass(frozen=True)
class Entry:
    """One disagreement, or one thing the paper leaves open.

    here: our option and its default. chapter: the notebook that tells more. recipe, base, protocol:
    runs that differ in this only. brief: trained in the profile of ablations. reason: why there is
    no measured effect, or what to bear in mind about one. other: the other way in few words.
    """

    key: str
    group: str
    topic: str
    paper: str
    code: str
    here: str
    chapter: str
    recipe: str = ""
    base: str = "vigor"
    protocol: str = "same-area"
    brief: bool = True
    reason: str = ""
    other: str = ""

    @property
    def other_way(self) -> str:
        """What is compared with the released code, in few words, for a picture."""
        return self.other or (get_recipe(self.recipe).title if self.recipe else self.topic)


@dataclass(frozen=True)
class Effect:
    """The other way less the released code's, for one entry.

    measure: of what. finding: in points, None for an effect that is no share of queries. text: in
    words. trained: whether networks were trained, so that chance in training counts, too.
    """

    entry: str
    measure: str
    finding: Finding | None = None
    text: str = ""
    trained: bool = False

    @property
    def differs(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.finding is not None and (self.finding.low > 0 or self.finding.high < 0)

    def __str__(self) -> str:
        if self.finding is None:
            return self.text
        shown = f"{self.measure} {self.finding}"
        if not self.differs:
            shown += ": none" if self.finding.low == self.finding.high == 0 else ": none shown"
        return f"{shown}. {self.text}" if self.text else shown


def share_effect(
    entry: str,
    measure: str,
    other: NDArray[np.bool_],
    released: NDArray[np.bool_],
    text: str = "",
) -> Effect:
    """(Q,) which queries succeed the other way and the released way -> difference in points."""
    gap, low, high = (100 * value for value in paired_difference(other, released))
    finding = Finding(gap, low, high, "points", f"{len(other):,} queries")
    return Effect(entry, measure, finding, text)


def trained_effects(
    evidence: Evidence, measures: Sequence[str] = ("top-1", "within 10 m")
) -> list[Effect]:
    """Of the entries with recipes, as far as their runs exist; a missing run is said in words."""
    effects = []
    for entry in ENTRIES:
        if not entry.recipe:
            continue
        for measure in measures:
            try:
                finding = evidence.difference(
                    (entry.recipe, measure), (entry.base, measure), entry.protocol, entry.brief
                )
            except Missing as missing:
                effects.append(Effect(entry.key, measure, None, f"{DASH} ({missing})", True))
                break
            effects.append(Effect(entry.key, measure, finding, "", True))
    return effects


def rows(effects: Iterable[Effect], group: str) -> pd.DataFrame:
    """The entries of a group with their effects in words; a dash and the reason for none."""
    known: dict[str, list[str]] = {}
    for effect in effects:
        known.setdefault(effect.entry, []).append(str(effect))
    table = []
    for entry in ENTRIES:
        if entry.group != group:
            continue
        measured = "; ".join(known.get(entry.key, [DASH]))
        note = f" ({entry.reason})" if entry.reason else ""
        table.append(
            (
                entry.topic,
                entry.paper,
                entry.code,
                entry.here,
                measured + note,
                number(entry.chapter),
            )
        )
    columns = ["", "the paper says", "the released code does", "here", "effect", "chapter"]
    return pd.DataFrame(table, columns=columns)


def picture(effects: Iterable[Effect]) -> pd.DataFrame:
    """What :func:`vigorlib.figures.effects` draws: effects in points, the largest first."""
    ways = {entry.key: entry.other_way for entry in ENTRIES}
    table = [
        (ways[e.entry], e.measure, f.value, f.low, f.high, e.differs, e.trained)
        for e in effects
        if (f := e.finding) is not None
    ]
    columns = ["way", "measure", "difference", "low", "high", "differs", "trained"]
    frame = pd.DataFrame(table, columns=columns)
    order = frame["difference"].abs().sort_values(ascending=False, kind="stable").index
    return frame.loc[order].reset_index(drop=True)


def number(chapter: str) -> str:
    """``04_the_losses`` -> ``4``."""
    return chapter.split("_")[0].lstrip("0")


_T, _N, _L, _E, _D, _X = GROUPS
ENTRIES: tuple[Entry, ...] = (
    Entry(
        "second-rate", _T, "second stage's learning rate",
        "1e-5, no more is said", "step and Adam's state are restored: starts near 1.8e-6",
        "restart, off: one schedule over both stages", "05_training_and_mining",
        recipe="vigor-restart",
    ),
    Entry(
        "epochs", _T, "cross-area, first stage", "10 epochs", "11 epochs",
        "epochs of the profile, 11 in full; skip_epochs, 0", "05_training_and_mining",
        recipe="vigor-epoch-less", protocol="cross-area", brief=False,
        reason="mini has two such epochs, not eleven: one less is half, so this overstates it",
    ),
    Entry(
        "pool", _T, "age of the mining pool", "first in, first out, refreshed while training goes on",
        "descriptors as training last saw them, up to an epoch old",
        "fresh_pool, off: the same", "05_training_and_mining", recipe="vigor-fresh-pool",
    ),
    Entry(
        "hybrid-batch", _T, "batch of the second stage", "not said",
        "10 instead of 14, as many steps as with 14", "hybrid_batch, 10 in full",
        "05_training_and_mining",
        reason="mini has 16 pairs in both stages, as nothing there runs out of memory",
    ),
    Entry(
        "baseline-epochs", _T, "epochs of the baselines", "not said", DASH,
        "those of both stages together", "05_training_and_mining",
        reason="our choice, the same for all rows: all see as many pairs",
    ),
    Entry(
        "optimiser", _T, "optimiser", "Adam, rate 1e-5", "the same, a tenth after 150,000 steps",
        "the same in full; mini: AdamW, warm-up, cosine", "05_training_and_mining",
        reason="1e-5 is made for pretrained weights and would teach mini's nothing",
    ),
    Entry(
        "regularisers", _T, "weight regularisers", "not said", "declared, never added to the loss",
        "weight_decay, 0 in full, 0.01 in mini", "03_the_network",
        reason="no run with another weight_decay",
    ),
    Entry(
        "red-mean", _N, "red channel's mean", "not said", "123.6 in the loader, 123.68 in the "
        "backbone's file", "Normalise('caffe'): 123.6", "03_the_network",
        other="red mean 123.68",
    ),
    Entry(
        "weights-file", _N, "ImageNet weights", "ImageNet", "Caffe's, BGR minus means",
        "weights: torchvision in full, caffe in full-original", "03_the_network",
        reason="mini starts from nothing; both kinds have to be fetched",
    ),
    Entry(
        "flatten", _N, "aggregation", "sums over positions",
        "the same; the report flattens and projects", "aggregator, safa or flatten", "03_the_network",
        recipe="vigor-flatten", base="vigor-resnet",
        reason="on the ResNet, where both are affordable",
    ),
    Entry(
        "pooling", _N, "pooling after conv5_3", "not said",
        "2 x 2 before SAFA, none in the Siamese baseline", "the same in full, none in mini",
        "03_the_network", reason="mini's maps are too small for it",
    ),
    Entry(
        "resnet", _N, "the report's ResNet", "depth not said (report)", DASH,
        "resnet18; resnet34 and timm's by name", "03_the_network", reason="nothing to compare with",
    ),
    Entry(
        "offset-input", _N, "offset head's input", "the two embeddings",
        "un-normalised ones", "the same in full; offset_rescale in mini", "03_the_network",
        reason="part of training from scratch, not varied",
    ),
    Entry(
        "loss-weights", _L, "weights of IOU and offset loss", "1 and 1", "1/10 and 1/100",
        "iou_weight, offset_weight: 0.1 and 0.01 in full, 0.1 and 0.2 in mini", "04_the_losses",
        recipe="vigor-paper-weights",
    ),
    Entry(
        "diagonal", _L, "triplet sum", "over negatives", "also over the diagonal",
        "include_diagonal, off", "04_the_losses",
    ),
    Entry(
        "overflow", _L, "log(1 + exp(x))", "as written", "as written",
        "softplus: the same number, any precision", "04_the_losses",
    ),
    Entry(
        "sign", _L, "sign in Eq. 1", "d_pos - d_neg; the report prints d_pos + d_neg",
        "d_pos - d_neg", "the minus", "04_the_losses",
        reason="not trained: with the plus the descriptors would collapse, chapter 4 draws it",
    ),
    Entry(
        "iou-floor", _L, "denominator of the IOU loss", "s_pos", "the same, no floor",
        "iou_floor, none in full, 0.1 in mini", "04_the_losses",
        reason="from scratch s_pos begins near zero, where the quotient explodes; not varied",
    ),
    Entry(
        "semi-triplet", _L, "triplets on semi-positives", "an ablation: it hurts",
        "computed, not used", "semi_positives='positive', default 'iou'", "04_the_losses",
        recipe="vigor-semi-positive",
    ),
    Entry(
        "offset-classes", _L, "offset as a class", "an ablation: regression is better",
        "10 x 10 classes behind a switch", "offset='classification', default 'regression'",
        "04_the_losses", recipe="vigor-offset-classes",
    ),
    Entry(
        "hit-rate", _E, "hit rate", "the best tile covers the query",
        "semi-positives left out, the positive first", "both: hit_rate_covering, hit_rate",
        "06_retrieval",
        other="the best tile covers the query",
    ),
    Entry(
        "top1pct", _E, "top-1 %", "the best hundredth",
        "rank < int(0.01 N) + 1; later repositories N // 100",
        "top1pct as released; top1pct_floor", "06_retrieval",
        other="N // 100",
    ),
    Entry(
        "ties", _E, "ties", "not said", "only strictly closer tiles count: ties favour the model",
        "the same", "06_retrieval",
        other="ties count against the model",
    ),
    Entry(
        "distance", _E, "distance in metres", "distance of GPS positions",
        "arccos on a sphere of 6,371,004 m",
        "method: geodesic; haversine, official", "07_metre_level",
        other="geodesic distance",
    ),
    Entry(
        "back", _E, "pixels back to degrees", "0.114 m a pixel",
        "half a tile is 36.48 m everywhere", "system: that of the labels; original",
        "07_metre_level",
        other="each city's own resolution",
    ),
    Entry(
        "longitude", _E, "longitude step around a noisy fix", "+-200 m",
        "New York's constant for every city", "metres, each city's own", "10_ablations",
    ),
    Entry(
        "thresholds", _E, "thresholds in metres", DASH, "1.1^(i/5), i = 1 ... 499, strictly below",
        "the same", "07_metre_level", reason="no disagreement",
    ),
    Entry(
        "centre", _E, "offset of baselines", "0", "0", "0", "07_metre_level",
        reason="no disagreement",
    ),
    Entry(
        "matrix", _E, "search", "nearest tile", "a whole matrix, sorted",
        "blocks, exact; FAISS on request", "09_how_far_does_exact_search_go",
        reason="the same ranks; tests hold it",
    ),
    Entry(
        "resolution", _D, "metres a pixel", "about 0.114", "0.114 in every city's labels",
        "labels: corrected; original, mercator", "08_labels",
    ),
    Entry(
        "north", _D, "north of the corrected labels", "later than the paper",
        "grid north of the UTM zone", "reproduced; mercator has true north", "08_labels",
    ),
    Entry(
        "rounding", _D, "rounding of the corrected labels", "later than the paper",
        "to whole pixels, halves to even", "the same", "08_labels",
    ),
    Entry(
        "beyond", _D, "semi-positives lie on their tile", "all four tiles cover the query",
        "by corrected labels some lie beyond 320 px", "kept as published", "08_labels",
    ),
    Entry(
        "semi-iou", _D, "IOU of semi-positives", "in [1/7, 9/23]", "whatever the offset gives",
        "the same, tile_iou", "02_sampling_geometry",
    ),
    Entry(
        "distractors", _D, "tiles that cover no panorama", "about 4 %",
        "counted before balancing", "all tiles stay in the gallery", "01_what_is_vigor",
    ),
    Entry(
        "resize", _X, "resizing", "320 x 320 and 320 x 640",
        "loader averages areas, explanations interpolate", "areas everywhere",
        "11_what_the_network_sees",
        other="panoramas resized bilinearly",
    ),
    Entry(
        "empty-map", _X, "a map without a positive value", "not said", "0/0", "zeros",
        "11_what_the_network_sees", reason="a map of NaN cannot be drawn, one of zeros can",
    ),
)  # fmt: skip
"""Every disagreement that the chapters' tables name, once."""

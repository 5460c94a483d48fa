"""Where a method fails: answers and labels -> kinds of answers, causes of errors, splits of queries.

Nothing here opens an image or runs a network. What a query was answered comes from
:meth:`vigorlib.runs.Run.answers`, what is true from :class:`vigorlib.dataset.Vigor`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigorlib import geometry
from vigorlib.dataset import Vigor
from vigorlib.evaluation import bootstrap_interval, errors_on
from vigorlib.geometry import TILE_PX, mercator_px

Answers = Mapping[str, NDArray[Any]]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

KINDS = ("right tile", "semi-positive", "next door", "elsewhere in the city", "another city")
NEXT_DOOR_PX = 480
"""Tiles one step of the grid apart (309 to 362 px in VIGOR) are nearer, those two steps apart not."""
CAUSES = ("placed", "offset", "tile", "tile and offset", "label")


# -- what was answered -----------------------------------------------------------------------


def kinds(data: Vigor, tiles: Indices) -> Indices:
    """(Q,) which of :data:`KINDS` the tile is that a query was answered with. tiles: (Q,).

    The kinds exclude each other. "next door" is one of the eight tiles around the positive that is
    not one of the query's own four; the last two kinds share no ground with it, or nearly none.
    """
    _require_queries(data, tiles, "tiles")
    kind = np.full(len(tiles), KINDS.index("elsewhere in the city"))
    kind[data.tiles.cities[tiles] != data.queries.cities] = KINDS.index("another city")
    kind[_steps_px(data, tiles, data.references[:, 0]) < NEXT_DOOR_PX] = KINDS.index("next door")
    kind[(tiles[:, None] == data.references).any(axis=1)] = KINDS.index("semi-positive")
    kind[tiles == data.references[:, 0]] = KINDS.index("right tile")
    return kind


def shares_of(kind: Indices, names: tuple[str, ...] = KINDS) -> dict[str, float]:
    """Name -> share of queries; the shares add up to 1."""
    counts = np.bincount(kind, minlength=len(names)) / len(kind)
    return {name: float(share) for name, share in zip(names, counts, strict=True)}


def place_margin(data: Vigor, answers: Answers) -> Floats:
    """(Q,) how much more similar the best tile is than the best tile of *another place*.

    Tiles next to the best one show the same street and are passed over; the truth is not used.
    Where all stored tiles are of one place, the last of them stands for the next.
    """
    top, similarity = answers["top"], answers["top_similarity"].astype(float)
    near = np.stack([_steps_px(data, column, top[:, 0]) for column in top.T], axis=1) < NEXT_DOOR_PX
    other = np.where(near.all(axis=1), top.shape[1] - 1, near.argmin(axis=1))
    return similarity[:, 0] - similarity[np.arange(len(top)), other]


# -- what an error is made of ----------------------------------------------------------------


@dataclass(frozen=True)
class ErrorSteps:
    """Three errors of each query, in metres, each with one more thing left to the method.

    label_m: the true tile and the label's own offset: rounding, and how pixels become degrees.
    given_m: the true tile, the predicted offset: adds the part within the tile.
    retrieved_m: the retrieved tile, the predicted offset: adds the part of retrieval.
    """

    label_m: Floats
    given_m: Floats
    retrieved_m: Floats


def error_steps(data: Vigor, answers: Answers) -> ErrorSteps:
    """The three errors of every query, each (Q,). Distances do not add up: compare distributions."""
    label_m, _ = errors_on(data, data.references[:, 0], data.offsets_px[:, 0], "geodesic")
    given, retrieved = (np.asarray(answers[n], float) for n in ("given_error_m", "error_m"))
    _require_queries(data, given, "given_error_m")
    return ErrorSteps(label_m, given, retrieved)


def causes(steps: ErrorSteps, covered: Bools, limit_m: float = 10.0) -> Indices:
    """(Q,) why a query is not placed within ``limit_m``: an index into :data:`CAUSES`.

    covered: (Q,) whether the retrieved tile shows the place. "tile": on the true tile the query
    would have been placed; "offset": the tile shows the place, the predicted offset misses it;
    "tile and offset": neither is good enough; "label": not even the label's own offset is.
    """
    cause = np.where(steps.given_m < limit_m, CAUSES.index("tile"), CAUSES.index("tile and offset"))
    cause[covered] = CAUSES.index("offset")
    cause[steps.label_m >= limit_m] = CAUSES.index("label")
    cause[steps.retrieved_m < limit_m] = CAUSES.index("placed")
    return cause


# -- splits of the queries -------------------------------------------------------------------


def seen_in_training(train: Vigor, test: Vigor) -> Bools:
    """(Q,) whether a test query's positive tile is the positive of a training query, too."""
    names = [
        np.char.add(np.char.add(d.tiles.cities, "/"), d.tiles.names)[d.references[:, 0]]
        for d in (train, test)
    ]
    return np.isin(names[1], names[0])


def from_centre_m(data: Vigor) -> Floats:
    """(Q,) metres from a query to the centre of its positive tile."""
    centre = data.tiles.latlon[data.references[:, 0]]
    return geometry.great_circle_m(*data.queries.latlon.T, *centre.T)


def similar_streets(descriptors: NDArray[np.floating], data: Vigor, chunk: int = 128) -> Indices:
    """(Q,) how many distant tiles look as much like the positive as its own neighbours do.

    descriptors: (N, D) of the gallery's tiles, L2-normalised. A tile counts if it shares no ground
    with the positive and is at least as similar to it as the three semi-positives, which share half
    or a quarter of their ground with it, are on average. Only satellite descriptors are compared:
    the query's panorama, and so whether it is found, has no part in it.
    """
    if len(descriptors) != len(data.tiles):
        raise ValueError(
            f"{len(descriptors)} descriptors: expected one for each of {len(data.tiles)} tiles"
        )
    pixel = mercator_px(data.tiles.latlon)
    count = np.empty(len(data), dtype=np.int64)
    for start in range(0, len(data), chunk):
        rows = slice(start, start + chunk)
        own = data.references[rows]  # (chunk, 4)
        similarity = descriptors[own[:, 0]] @ descriptors.T  # (chunk, N)
        asked = np.take_along_axis(similarity, own[:, 1:], axis=1).mean(axis=1, keepdims=True)
        apart = np.abs(pixel[own[:, 0], None] - pixel).max(axis=-1) >= TILE_PX
        count[rows] = ((similarity >= asked) & apart).sum(axis=1)
    return count


# -- shares with intervals -------------------------------------------------------------------

Interval = tuple[float, float, float]
"""A value and the ends of its 95 % bootstrap interval over queries."""


def share(succeeded: Bools) -> Interval:
    """Share of queries that succeeded, and its interval."""
    return float(succeeded.mean()), *bootstrap_interval(succeeded.astype(float))


def share_by(succeeded: Bools, groups: Mapping[str, Bools]) -> dict[str, Interval]:
    """:func:`share` of each group of queries; empty groups are left out."""
    return {name: share(succeeded[here]) for name, here in groups.items() if here.any()}


def median(values: Floats) -> Interval:
    """Median over queries, and its interval."""
    return float(np.median(values)), *bootstrap_interval(np.asarray(values, float), np.median)


def group_difference(
    succeeded: Bools, group: Bools, strata: NDArray[Any] | None = None
) -> Interval:
    """Share within a group less the share outside it: other queries, so each is resampled alone.

    strata: (Q,) values; like is then compared with like: the difference is taken among queries of
    the same value and averaged by their number. Values that only one side has are left out.
    """
    strata = np.zeros(len(group)) if strata is None else strata
    rng, rows = np.random.default_rng(0), []
    for value in np.unique(strata):
        sides = [succeeded[(strata == value) & part] for part in (group, ~group)]
        if all(len(side) for side in sides):
            exact = [side.mean() for side in sides]
            drawn = [_resampled(side, rng) for side in sides]
            rows.append((sum(map(len, sides)), exact[0] - exact[1], drawn[0] - drawn[1]))
    if not rows:
        raise ValueError(
            f"{int(group.sum())} of {len(group)} queries are in the group: expected some, not all, "
            "and some of each in at least one stratum"
        )
    weights = np.array([row[0] for row in rows]) / sum(row[0] for row in rows)
    low, high = np.quantile(weights @ np.stack([row[2] for row in rows]), (0.025, 0.975))
    return float(weights @ [row[1] for row in rows]), float(low), float(high)


def bins(values: Floats, edges: Sequence[float], unit: str = "") -> dict[str, Bools]:
    """Name -> which queries' values lie in [edge, next edge); infinity is written with a plus."""
    named = {}
    for low, high in itertools.pairwise(edges):
        end = f"{low:g}+" if np.isinf(high) else f"{low:g}-{high:g}"
        named[f"{end} {unit}".strip()] = (values >= low) & (values < high)
    return named


def answered(confidence: Floats, right: Bools) -> tuple[Floats, Floats]:
    """Accuracy when only the surest are answered: shares answered and shares of those right, (Q,)."""
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    return count / len(order), np.cumsum(right[order]) / count


# -- helpers ---------------------------------------------------------------------------------


def _resampled(succeeded: Bools, rng: np.random.Generator) -> Floats:
    """1000 bootstrap shares: of resampled yes and no, the number of yes is a binomial draw."""
    return rng.binomial(len(succeeded), succeeded.mean(), 1000) / len(succeeded)


def _steps_px(data: Vigor, tiles: Indices, others: Indices) -> Floats:
    """How far the centres of two lots of tiles are apart on the wider axis, Mercator pixels."""
    pixel = mercator_px(data.tiles.latlon)
    return np.abs(pixel[tiles] - pixel[others]).max(axis=-1)


def _require_queries(data: Vigor, values: NDArray[Any], name: str) -> None:
    if np.shape(values) != (len(data),):
        raise ValueError(
            f"{name} has shape {np.shape(values)}: expected ({len(data)},), one for each query"
        )

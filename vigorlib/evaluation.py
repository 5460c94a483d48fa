"""Ranks and predicted positions -> the paper's numbers, as shares in [0, 1] and metres."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vigorlib import geometry
from vigorlib.dataset import Vigor
from vigorlib.geometry import DistanceMethod, LabelSystem
from vigorlib.retrieval import Ranking

THRESHOLDS_M: NDArray[np.float64] = 1.1 ** (np.arange(1, 500) / 5)
"""Where the paper's Figure 9 measures: 1.1^(i/5) metres, i = 1..499."""
Answers = Mapping[str, NDArray[Any]]
"""What a run answered to each query, by name (:meth:`vigorlib.runs.Run.answers`)."""
SUCCEEDED: dict[str, Callable[[Answers], NDArray[np.bool_]]] = {
    "top1": lambda a: a["rank"] < 1,
    "top5": lambda a: a["rank"] < 5,
    "top10": lambda a: a["rank"] < 10,
    "hit_rate": lambda a: a["rank_without_semi_positives"] < 1,
    "within_10m": lambda a: a["error_m"] < 10,
    "centre_within_10m": lambda a: a["centre_error_m"] < 10,
    "given_within_10m": lambda a: a["given_error_m"] < 10,
    "given_centre_within_10m": lambda a: a["given_centre_error_m"] < 10,
    "near_top1": lambda a: a["near_rank"] < 1,
}
"""Measure -> which queries succeeded by it, (Q,)."""
RECALL_AT = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)


def measurements(
    data: Vigor,
    ranking: Ranking,
    offsets_px: NDArray[np.float64],
    method: DistanceMethod = "geodesic",
) -> tuple[dict[str, Any], dict[str, Any], dict[str, NDArray[Any]]]:
    """All of the paper's measurements on a test set: metrics, curves for figures, arrays a query.

    offsets_px: (Q, 2) predicted for each query on its best tile, zeros for methods without.
    """
    error_m, centre_m = errors_on(data, ranking.top[:, 0], offsets_px, method)
    metrics: dict[str, Any] = {
        **retrieval_metrics(ranking, len(data.tiles), data.references),
        "within_10m": within(error_m, 10),
        "within_10m_centre": within(centre_m, 10),
        "median_error_m": float(np.median(error_m)),
        "median_error_centre_m": float(np.median(centre_m)),
    }
    metrics["intervals"] = _intervals(ranking, error_m)
    curves: dict[str, Any] = {
        "recall_at": {str(k): float((ranking.positive < k).mean()) for k in RECALL_AT},
        "metre_accuracy": _curve(error_m),
        "metre_accuracy_centre": _curve(centre_m),
    }
    arrays: dict[str, NDArray[Any]] = {
        "rank": ranking.positive,
        "rank_without_semi_positives": ranking.without_semi_positives,
        "top": ranking.top[:, :50].astype(np.int32),
        "top_similarity": ranking.top_similarity[:, :50].astype(np.float32),
        "offset_px": offsets_px.astype(np.float32),
        "error_m": error_m.astype(np.float32),
        "centre_error_m": centre_m.astype(np.float32),
    }
    return metrics, curves, arrays


def on_given_tiles(
    data: Vigor, offsets_px: NDArray[np.float64], method: DistanceMethod = "geodesic"
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """The protocol of later papers: the positive tile is given, only the offset is asked for.

    offsets_px: (Q, 2) predicted on each query's positive. Returns metrics, arrays a query.
    """
    error_m, centre_m = errors_on(data, data.references[:, 0], offsets_px, method)
    metrics = {
        "within_10m_given": within(error_m, 10),
        "within_10m_given_centre": within(centre_m, 10),
        "median_error_given_m": float(np.median(error_m)),
        "median_error_given_centre_m": float(np.median(centre_m)),
    }
    return metrics, {
        "given_offset_px": offsets_px.astype(np.float32),
        "given_error_m": error_m.astype(np.float32),
        "given_centre_error_m": centre_m.astype(np.float32),
    }


def near_a_fix(
    data: Vigor,
    ranking: Ranking,
    offsets_px: NDArray[np.float64],
    method: DistanceMethod = "geodesic",
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """What remains to be found around a noisy GPS fix (:mod:`vigorlib.noisy_gps`).

    ranking, offsets_px: of that search. Returns metrics, arrays a query.
    """
    error_m, _ = errors_on(data, ranking.top[:, 0], offsets_px, method)
    metrics = {
        "near_top1": recall_at(ranking.positive, 1),
        "near_top5": recall_at(ranking.positive, 5),
        "near_within_10m": within(error_m, 10),
        "near_median_error_m": float(np.median(error_m)),
    }
    return metrics, {"near_rank": ranking.positive, "near_error_m": error_m.astype(np.float32)}


def errors_on(
    data: Vigor, tiles: NDArray[np.int64], offsets_px: NDArray[np.float64], method: DistanceMethod
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(Q,) metres by which a position on ``tiles`` (Q,) is off: with the offset, by the centre."""
    where: dict[str, Any] = {
        "query_latlon": data.queries.latlon,
        "tile_latlon": data.tiles.latlon[tiles],
        "city": data.tiles.cities[tiles],
        "system": data.labels,
        "method": method,
    }
    return (
        metre_errors(offset_px=offsets_px, **where),
        metre_errors(offset_px=np.zeros_like(offsets_px), **where),
    )


def recall_at(rank: ArrayLike, k: int) -> float:
    """Share of queries whose positive is among the k best: rank < k."""
    return float((np.asarray(rank) < k).mean())


def retrieval_metrics(
    ranking: Ranking, gallery_size: int, references: ArrayLike
) -> dict[str, float]:
    """Recall and hit rates.

    top1, top5, top10: rank < k. top1pct: rank < int(0.01 N) + 1, the released code's rule (907 of
    90,618); top1pct_floor: rank < N // 100, that of later repositories (0 for galleries below 100).
    hit_rate: the code's, the best tile is the positive once the semi-positives are left out;
    hit_rate_covering: the paper's words, the best tile covers the query.
    """
    covering = (ranking.top[:, :1] == np.asarray(references)).any(axis=1)
    return {
        "top1": recall_at(ranking.positive, 1),
        "top5": recall_at(ranking.positive, 5),
        "top10": recall_at(ranking.positive, 10),
        "top1pct": recall_at(ranking.positive, int(0.01 * gallery_size) + 1),
        "top1pct_floor": recall_at(ranking.positive, gallery_size // 100),
        "hit_rate": recall_at(ranking.without_semi_positives, 1),
        "hit_rate_covering": float(covering.mean()),
    }


def metre_errors(
    query_latlon: ArrayLike,
    tile_latlon: ArrayLike,
    offset_px: ArrayLike,
    city: str | NDArray[np.str_] | None = None,
    system: LabelSystem = "corrected",
    method: DistanceMethod = "geodesic",
) -> NDArray[np.float64]:
    """Metres between where each query is and where it was put.

    query_latlon: (Q, 2) degrees; tile_latlon: (Q, 2) of the retrieved tiles; offset_px: (Q, 2)
    predicted offsets [north, east] in pixels of the 640 px tile, zeros for methods without.
    city: of the retrieved tiles, one name or (Q,); system: the label system the offsets were
    trained with. The released evaluation is ``system="original", method="official"`` with each
    tile's own city: it turns 36.48 m into degrees at the tile's latitude.
    """
    query, tile = np.asarray(query_latlon, dtype=float), np.asarray(tile_latlon, dtype=float)
    offset = np.asarray(offset_px, dtype=float)
    if not (query.shape == tile.shape == offset.shape and query.ndim == 2):
        raise ValueError(
            f"shapes {query.shape}, {tile.shape}, {offset.shape} of queries, tiles and offsets: "
            "expected (Q, 2) for all three"
        )
    predicted = np.empty_like(tile)
    cities = np.broadcast_to(np.array(city, dtype=object), len(query))
    for name in set(cities.tolist()):
        rows = np.flatnonzero(cities == name) if name is not None else np.arange(len(query))
        predicted[rows] = geometry.predicted_latlon(tile[rows], offset[rows], name, system)
    return geometry.great_circle_m(
        query[:, 0], query[:, 1], predicted[:, 0], predicted[:, 1], method
    )


def within(error_m: ArrayLike, metres: float) -> float:
    """Share of queries placed less than ``metres`` from where they are."""
    return float((np.asarray(error_m) < metres).mean())


def accuracy_curve(
    error_m: ArrayLike, thresholds_m: NDArray[np.float64] = THRESHOLDS_M
) -> NDArray[np.float64]:
    """(T,) share of queries with an error strictly below each threshold."""
    ordered = np.sort(np.asarray(error_m))
    return np.searchsorted(ordered, thresholds_m, side="left") / max(len(ordered), 1)


def bootstrap_interval(
    values: NDArray[np.float64],
    statistic: Callable[..., NDArray[np.float64]] = np.mean,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Percentile bootstrap interval over queries. values: (Q,); statistic takes ``axis``.

    The mean of few distinct values (hits and misses) needs only how often each of them is drawn,
    which is a multinomial: the same distribution, a thousand times quicker.
    """
    rng = generator or np.random.default_rng(0)
    tail = (1 - level) / 2
    distinct, counts = np.unique(values, return_counts=True)
    if statistic is np.mean and 0 < len(distinct) <= 8:
        often = rng.multinomial(len(values), counts / len(values), resamples)
        low, high = np.quantile(often @ distinct / len(values), [tail, 1 - tail])
        return float(low), float(high)
    chunk = max(2**22 // max(len(values), 1), 1)
    drawn: list[NDArray[np.float64]] = []
    for start in range(0, resamples, chunk):
        size = (min(chunk, resamples - start), len(values))
        drawn.append(statistic(values[rng.integers(0, len(values), size)], axis=1))
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    better: NDArray[np.bool_], worse: NDArray[np.bool_], level: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two methods' shares on the same queries, and its bootstrap interval.

    better, worse: (Q,) whether each query succeeded. Returns difference, low, high. Resampling
    queries, not methods, leaves out what both find hard: sharper than two intervals side by side.
    """
    if better.shape != worse.shape or better.ndim != 1:
        raise ValueError(
            f"shapes {better.shape} and {worse.shape}: expected (Q,) twice, the same queries"
        )
    difference = better.astype(float) - worse.astype(float)
    return float(difference.mean()), *bootstrap_interval(difference, level=level)


# -- helpers ---------------------------------------------------------------------------------


def _curve(errors_m: NDArray[np.float64]) -> list[float]:
    return [round(float(v), 4) for v in accuracy_curve(errors_m)]


def _intervals(ranking: Ranking, error_m: NDArray[np.float64]) -> dict[str, list[float]]:
    """95 % bootstrap intervals over queries."""
    values = {
        "top1": ranking.positive < 1,
        "top5": ranking.positive < 5,
        "hit_rate": ranking.without_semi_positives < 1,
        "within_10m": error_m < 10,
    }
    rng = np.random.default_rng(0)
    return {
        name: [
            round(bound, 4) for bound in bootstrap_interval(v.astype(float), np.mean, generator=rng)
        ]
        for name, v in values.items()
    }

"""Finding queries of the test set: filter, take one at random, go to the next. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vigorlib.dataset import Vigor

Outcome = Literal["", "right", "wrong", "covered"]
Indices = NDArray[np.int64]


class FilterError(ValueError):
    """A filter that cannot be applied."""


def find_queries(
    data: Vigor,
    city: str = "",
    text: str = "",
    outcome: Outcome = "",
    error_m: tuple[float, float] | None = None,
    answers: Mapping[str, NDArray[Any]] | None = None,
) -> Indices:
    """Indices of the queries that pass every given filter, in order; empty if none does.

    city: a whole name; text: part of the panorama's name, upper or lower case. outcome: by the run
    whose ``answers`` (:meth:`vigorlib.runs.Run.answers`) are given: ``right`` if the positive came
    first, ``wrong`` if not, ``covered`` if the best tile holds the query. error_m: (least, most)
    metres by which that run missed, most excluded.
    """
    keep = np.ones(len(data), dtype=bool)
    if city:
        if city not in data.cities:
            raise FilterError(f"unknown city {city!r}: expected one of {', '.join(data.cities)}")
        keep &= data.queries.cities == city
    if text:
        wanted = text.casefold()
        keep &= np.array([wanted in name.casefold() for name in data.queries.names.tolist()])
    if outcome:
        keep &= _by_outcome(data, outcome, _answers(data, answers))
    if error_m is not None:
        least, most = error_m
        if not least <= most:
            raise FilterError(f"error_m is {error_m}: expected (least, most) metres")
        errors = _answers(data, answers)["error_m"]
        keep &= (errors >= least) & (errors < most)
    return np.flatnonzero(keep)


def random_query(found: Indices, generator: np.random.Generator) -> int | None:
    """One of the found queries; None if there are none."""
    return int(generator.choice(found)) if len(found) else None


def neighbour(found: Indices, current: int, step: int = 1) -> int | None:
    """The query ``step`` places after ``current`` (before, if negative), going round at the ends.

    found: ascending. A current query that is not among them counts as lying between its neighbours.
    """
    if not len(found):
        return None
    place = int(np.searchsorted(found, current))
    is_there = place < len(found) and found[place] == current
    if not is_there and step > 0:
        place -= 1
    return int(found[(place + step) % len(found)])


def _by_outcome(
    data: Vigor, outcome: str, answers: Mapping[str, NDArray[Any]]
) -> NDArray[np.bool_]:
    if outcome == "right":
        return answers["rank"] == 0
    if outcome == "wrong":
        return answers["rank"] > 0
    if outcome == "covered":
        return (answers["top"][:, :1] == data.references).any(axis=1)
    raise FilterError(f"unknown outcome {outcome!r}: expected right, wrong or covered")


def _answers(data: Vigor, answers: Mapping[str, NDArray[Any]] | None) -> Mapping[str, NDArray[Any]]:
    if answers is None:
        raise FilterError("right, wrong and errors need the answers of a run: give Run.answers()")
    if len(answers["rank"]) != len(data):
        raise FilterError(
            f"the answers are of {len(answers['rank'])} queries: expected {len(data)}, those of "
            "this test set"
        )
    return answers

"""What a city's label sets say: counts, splits, grid, coverage, offsets, published oddities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.doctor import findings as f
from data_prep.doctor.findings import PUBLISHED, RECTANGLES, Findings
from data_prep.doctor.grid import check_coverage, check_grid
from data_prep.doctor.offsets import check_offsets
from data_prep.doctor.read import ALL, TEST, TRAIN, LabelSet
from vigorlib import geometry
from vigorlib.geometry import CITIES


def check_labels(
    city: str, sets: Sequence[LabelSet], embedded: bool, found: Findings
) -> dict[str, Any]:
    """Check every label set of a city. Returns its numbers: of the corrected set if it is there."""
    systems: dict[str, Any] = {}
    for labels in sets:
        if city in PUBLISHED and not embedded:
            _check_counts(city, labels, found)
        _check_splits(city, labels, found)
        if city in CITIES:
            check_grid(city, labels.tiles, embedded or city in RECTANGLES, found)
        systems |= _check_rows(city, labels, found)
    return {**_numbers(city, sets[0], found), "label_files": systems} if sets else {}


def _check_counts(city: str, labels: LabelSet, found: Findings) -> None:
    published = PUBLISHED[city]
    expected = {
        TRAIN: published.train,
        TEST: published.test,
        ALL: published.train + published.test,
    }
    counts = [
        (rows.file, len(set(rows.queries)), expected[stem]) for stem, rows in labels.rows.items()
    ]
    counts.append((labels.tiles.file, len(labels.tiles.names), published.tiles))
    wrong = (f"{file}: {n:,}, published {m:,}" for file, n, m in counts if n not in (0, m))
    found.add(f.COUNTS, city, wrong)


def _check_splits(city: str, labels: LabelSet, found: Findings) -> None:
    queries = {stem: set(rows.queries) for stem, rows in labels.rows.items()}
    train, test = queries.get(TRAIN, set()), queries.get(TEST, set())
    found.add(f.SHARED_QUERIES, city, sorted(train & test))
    if len(queries) == 3 and all(queries.values()):  # an empty file is reported as such
        found.add(f.SPLITS_DIFFER, city, sorted((train | test) ^ queries[ALL]))
    positives = labels.positives(TRAIN, TEST) or labels.positives(ALL)
    crowded = np.flatnonzero(np.bincount(list(positives.values()), minlength=1) > 2)
    found.add(f.CROWDED, city, (labels.tiles.names[i] for i in crowded))


def _check_rows(city: str, labels: LabelSet, found: Findings) -> dict[str, Any]:
    """Coverage, then the offsets of the rows whose tiles are the right ones. File -> its system."""
    systems = {}
    for rows in labels.rows.values():
        if city in CITIES:
            rows = rows.take(check_coverage(city, labels.tiles, rows, found))
        if len(rows):
            systems[rows.file] = check_offsets(city, labels.labels, labels.tiles, rows, found)
    return systems


def _numbers(city: str, labels: LabelSet, found: Findings) -> dict[str, Any]:
    """Counts and the shares that papers report; what is odd as published becomes a note."""
    train, test = labels.positives(TRAIN), labels.positives(TEST)
    trained = set(train.values())
    leaking = [query for query, tile in test.items() if tile in trained]
    found.add(f.LEAKAGE, city, leaking)

    read = labels.split(TRAIN, TEST) or labels.split(ALL)
    semi_positives = 3 * sum(map(len, read))
    outside = [
        rows.row(i, labels.tiles.names[rows.references[i, k + 1]])
        for rows in read
        for i, k in np.argwhere(~geometry.covers(rows.offsets_px[:, 1:]))
    ]
    found.add(f.OUTSIDE, city, outside)

    used = {int(i) for rows in labels.rows.values() for i in rows.references.ravel()}
    idle = [name for i, name in enumerate(labels.tiles.names) if i not in used]
    found.add(f.DISTRACTORS, city, idle)
    return {
        "tiles": len(labels.tiles.names),
        **{k: len(labels.rows[s].queries) for k, s in _SUBSETS.items() if s in labels.rows},
        "leakage": _share(leaking, len(test)),
        "semi_positives_outside": _share(outside, semi_positives),
        "distractors": _share(idle, len(labels.tiles.names)),
    }


_SUBSETS = {"train": TRAIN, "test": TEST, "all": ALL}


def _share(part: Sequence[str], whole: int) -> float | None:
    return round(len(part) / whole, 4) if whole else None

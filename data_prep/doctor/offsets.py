"""Which label system a file's offsets follow, and the rows that do not follow it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from data_prep.doctor import findings as f
from data_prep.doctor.findings import Findings
from data_prep.doctor.read import Rows, Tiles
from vigorlib.geometry import CITIES, LabelSystem, label_offsets

SYSTEMS: tuple[LabelSystem, ...] = get_args(LabelSystem)
ROUNDED_PX = 1.0
"""Agreement with a system that cannot be checked to the pixel: offsets may be rounded (0.5 px) and
VIGOR's first files are not at hand to be measured. Over a quarter of a tile the systems differ by
more than that in every city."""


def check_offsets(
    city: str, labels: str, tiles: Tiles, rows: Rows, found: Findings
) -> dict[str, Any]:
    """Compare a file's offsets with those that each label system makes of the names' GPS.

    Returns ``{"system": the one that most pairs follow, or None, "agreement": {system: share}}``.
    """
    computed = {system: _computed(city, system, tiles, rows) for system in SYSTEMS}
    agrees = {system: _agrees(city, system, computed[system], rows) for system in SYSTEMS}
    shares = {system: float(pairs.mean()) for system, pairs in agrees.items()}
    best = max(SYSTEMS, key=lambda system: (shares[system], system == labels))
    result = {
        "system": best if shares[best] >= 0.5 else None,
        "agreement": {system: round(share, 4) for system, share in shares.items()},
    }
    if result["system"] is None:
        found.add(f.NO_SYSTEM, city, [f"{rows.file}: {shares[best]:.0%} of the pairs are {best}"])
        return result
    if best != labels:
        found.add(f.OTHER_SYSTEM, city, [f"{rows.file}: {best}"])
    found.add(f.OFF, city, _disagreeing(best, rows, computed[best], agrees[best]))
    return result


def _disagreeing(
    system: LabelSystem, rows: Rows, computed: NDArray[np.float64], agrees: NDArray[np.bool_]
) -> Iterator[str]:
    for i in np.flatnonzero(~agrees.all(axis=1)):
        pair = int(np.argmin(agrees[i]))  # the first that disagrees
        written, expected = rows.offsets_px[i, pair].tolist(), computed[i, pair].round(2).tolist()
        yield rows.row(i, f"tile {pair + 1} at {written}, {system} would be {expected}")


def _agrees(
    city: str, system: LabelSystem, computed: NDArray[np.float64], rows: Rows
) -> NDArray[np.bool_]:
    """(Q, 4): whether a pair's offset is the system's.

    Corrected labels are reproduced to the pixel in every city whose files could be checked;
    SanFrancisco's could not.
    """
    exact = system == "corrected" and city != "SanFrancisco"
    error_px = np.abs(computed - rows.offsets_px).max(axis=-1)
    return error_px <= (0 if exact else ROUNDED_PX)  # False for NaN


def _computed(city: str, system: LabelSystem, tiles: Tiles, rows: Rows) -> NDArray[np.float64]:
    """(Q, 4, 2) offsets in pixels."""
    known = city if city in CITIES else None
    return label_offsets(rows.latlon[:, None], tiles.latlon[rows.references], known, system)

"""An area of your own: a folder of GPS-named tiles as a gallery.

The tiles are named as VIGOR's, ``satellite_<lat>_<lon>.png`` (or jpg): the position of the tile's
centre in degrees. What cannot be a tile is left out and listed, with the reason.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vigorlib.dataset import LabelError, Places, tile_latlon

ENDINGS = (".png", ".jpg", ".jpeg")
EXPECTED = "expected images named satellite_<lat>_<lon>.png (or .jpg), the tile's centre in degrees"


class AreaError(ValueError):
    """A folder that holds no tiles."""


@dataclass(frozen=True)
class Area:
    """The tiles of a folder, in the order of their names, and what was left out.

    tiles: their city is "". skipped: (name, reason).
    """

    tiles: Places
    skipped: tuple[tuple[str, str], ...]


def scan(folder: str | Path) -> Area:
    """The tiles of a folder (or of its subfolder ``satellite``, as in VIGOR's cities).

    Raises :class:`AreaError` if there are none. No image is opened.
    """
    folder = Path(folder).expanduser().resolve()
    if not folder.is_dir():
        raise AreaError(f"{str(folder)!r} is not a folder: {EXPECTED}")
    folder = folder / "satellite" if (folder / "satellite").is_dir() else folder
    names, places, skipped = [], [], []
    seen: dict[tuple[float, float], str] = {}
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_file()):
        if name.startswith(".") or not name.lower().endswith(ENDINGS):
            continue  # notes, metadata: nobody takes them for tiles
        place = _place(name)
        if place is None:
            skipped.append((name, f"its name gives no position: {EXPECTED}"))
        elif place in seen:
            skipped.append((name, f"it lies where {seen[place]} lies"))
        else:
            seen[place] = name
            names.append(name)
            places.append(place)
    if not names:
        raise AreaError(
            f"no tile in {str(folder)!r} ({len(skipped)} images with other names): {EXPECTED}"
        )
    return Area(
        Places(
            folder.parent,
            folder.name,
            np.array(names),
            np.full(len(names), "", dtype="U1"),
            np.array(places, dtype=np.float64),
        ),
        tuple(skipped),
    )


def among(tiles: Places, kept: NDArray[np.int64]) -> Places:
    """Some of the tiles, in the given order."""
    return Places(
        tiles.root, tiles.folder, tiles.names[kept], tiles.cities[kept], tiles.latlon[kept]
    )


def _place(name: str) -> tuple[float, float] | None:
    try:
        lat, lon = tile_latlon(name)
    except LabelError:
        return None
    return (lat, lon) if abs(lat) < 85.06 and abs(lon) <= 180 else None  # False for NaN

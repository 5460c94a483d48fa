"""An area of your own: a folder of GPS-named tiles as a gallery.

The tiles are named as VIGOR's, ``satellite_<lat>_<lon>.png`` (or jpg): the position of the tile's
centre in degrees. What cannot be a tile is left out and listed, with the reason.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod

from vigorlib.dataset import LabelError, Places, tile_latlon
from vigorlib.geometry import TILE_PX, label_offsets, predicted_latlon

ENDINGS = (".png", ".jpg", ".jpeg")
EXPECTED = "expected images named satellite_<lat>_<lon>.png (or .jpg), the tile's centre in degrees"
_WGS84 = Geod(ellps="WGS84")


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


def position_on_tile(
    tile_latlon: ArrayLike, offset_px: ArrayLike, tile_m: float | None = None
) -> NDArray[np.float64]:
    """Where a query is that stands at ``offset_px`` on its tile: (..., 2) degrees.

    offset_px: (..., 2) tile centre minus query, [north, east], in pixels of the 640 px tile.
    tile_m: side of the tile on the ground in metres; None: cut from Web-Mercator at zoom 20.
    """
    if tile_m is None:
        return predicted_latlon(tile_latlon, offset_px, None, "mercator")
    tile = np.asarray(tile_latlon, dtype=float)
    north_east = -np.asarray(offset_px, dtype=float) * tile_m / TILE_PX
    azimuth = np.rad2deg(np.arctan2(north_east[..., 1], north_east[..., 0]))
    distance = np.hypot(north_east[..., 0], north_east[..., 1])
    lat, lon = np.broadcast_arrays(tile[..., 0], tile[..., 1])
    lon, lat, _ = _WGS84.fwd(lon, lat, azimuth, distance)
    return np.stack([lat, lon], axis=-1)


def offset_on_tile(
    query_latlon: ArrayLike, tile_latlon: ArrayLike, tile_m: float | None = None
) -> NDArray[np.float64]:
    """Inverse of :func:`position_on_tile`: (..., 2) degrees twice -> (..., 2) pixels."""
    if tile_m is None:
        return label_offsets(query_latlon, tile_latlon, None, "mercator")
    query, tile = np.broadcast_arrays(*(np.asarray(v, float) for v in (query_latlon, tile_latlon)))
    azimuth, _, distance = _WGS84.inv(tile[..., 1], tile[..., 0], query[..., 1], query[..., 0])
    direction = np.deg2rad(azimuth)
    north_east = np.stack([np.cos(direction), np.sin(direction)], axis=-1)
    return -north_east * (np.asarray(distance)[..., None] / tile_m * TILE_PX)


def _place(name: str) -> tuple[float, float] | None:
    try:
        lat, lon = tile_latlon(name)
    except LabelError:
        return None
    return (lat, lon) if abs(lat) < 85.06 and abs(lon) <= 180 else None  # False for NaN

"""What an offset in pixels means on the ground: for VIGOR's cities, and for tiles of your own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod

from vigorlib.geometry import TILE_PX, LabelSystem, label_offsets, predicted_latlon

_WGS84 = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Ground:
    """How tiles lie on the ground.

    system: of the labels that the offset head learned, for VIGOR's cities; None for tiles of your
    own, each ``tile_m`` metres wide (None: 640 px of Web-Mercator at zoom 20, as VIGOR's).
    """

    system: LabelSystem | None = None
    tile_m: float | None = None

    def positions(
        self,
        tile_latlon: NDArray[np.float64],
        cities: NDArray[np.str_],
        offset_px: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Tiles (k, 2), their cities (k,) and offsets on them (k, 2) -> degrees (k, 2)."""
        if self.system is None:
            return position_on_tile(tile_latlon, offset_px, self.tile_m)
        out = np.empty_like(tile_latlon)
        for city in np.unique(cities):
            rows = cities == city
            out[rows] = predicted_latlon(tile_latlon[rows], offset_px[rows], str(city), self.system)
        return out

    def offsets(
        self,
        query_latlon: tuple[float, float],
        tile_latlon: NDArray[np.float64],
        cities: NDArray[np.str_],
    ) -> NDArray[np.float64]:
        """Where one query stands on each tile: (k, 2) pixels, far beyond it for distant tiles."""
        if self.system is None:
            return offset_on_tile(query_latlon, tile_latlon, self.tile_m)
        out = np.empty_like(tile_latlon)
        for city in np.unique(cities):
            rows = cities == city
            out[rows] = label_offsets(query_latlon, tile_latlon[rows], str(city), self.system)
        return out


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

"""Where a city stands on the globe: its tile grid, and world metres <-> degrees.

The world plane is the Web-Mercator plane at zoom 20, scaled to metres by the city's resolution, so
that a tile is exactly 640 Mercator pixels. The grid has VIGOR's own steps in degrees, which were
computed with 0.114 m/px: tiles of a city whose pixels are smaller overlap less than by half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.city.styles import Style
from vigorlib import geometry

MARGIN_M = 75.0
"""World beyond the outermost tiles, so that streets have something to end in."""


@dataclass(frozen=True)
class Place:
    """A square grid of ``tiles`` x ``tiles`` tiles whose north-west tile stands where the style says."""

    style: Style
    tiles: int

    @property
    def city(self) -> geometry.City:
        return geometry.CITIES[self.style.name]

    @property
    def tile_side_m(self) -> float:
        """Ground covered by one tile, 640 true pixels."""
        return geometry.TILE_PX * self.city.resolution_m

    @property
    def side_m(self) -> float:
        """Side of the world that the grid and its margin need."""
        corners = self._plane_m(self.tile_latlon()[[0, -1]])
        return float(np.abs(corners[1] - corners[0]).max() + self.tile_side_m + 2 * MARGIN_M)

    def tile_latlon(self) -> NDArray[np.float64]:
        """(tiles^2, 2) degrees of tile centres, rows from the north, columns from the west."""
        steps = np.arange(self.tiles)
        lat = self.style.lat_deg - steps * geometry.LATITUDE_STEP_DEG
        lon = self.style.lon_deg + steps * self.city.longitude_step_deg
        grid = np.stack(np.meshgrid(lat, lon, indexing="ij"), axis=-1)
        return grid.reshape(-1, 2)

    def grid_position(self, latlon: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) degrees -> (row, column) in units of the grid's steps, tile centres at integers."""
        steps = np.array([-geometry.LATITUDE_STEP_DEG, self.city.longitude_step_deg])
        return (latlon - (self.style.lat_deg, self.style.lon_deg)) / steps

    def to_world(self, latlon: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) degrees -> (..., 2) metres (x east, y south)."""
        return self._plane_m(latlon) - self._origin_m()

    def to_latlon(self, xy_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse of :meth:`to_world`."""
        return geometry.mercator_latlon((xy_m + self._origin_m()) / self.city.resolution_m)

    def _origin_m(self) -> NDArray[np.float64]:
        return self._plane_m(self.tile_latlon()[0]) - (self.tile_side_m / 2 + MARGIN_M)

    def _plane_m(self, latlon: NDArray[np.float64]) -> NDArray[np.float64]:
        return geometry.mercator_px(latlon) * self.city.resolution_m

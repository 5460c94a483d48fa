"""Search limited to a circle around a noisy GPS fix."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pyproj import Geod
from torch import Tensor

from vigorlib.geometry import great_circle_m
from vigorlib.retrieval import Indices, best

METRES_A_DEGREE = 110_000.0
"""A little less than a degree of latitude has anywhere."""
PIECE = 8192


class NearError(ValueError):
    """A circle that cannot be, or one without tiles."""


class Near(NamedTuple):
    """A circle on the ground: degrees, metres."""

    lat_deg: float
    lon_deg: float
    radius_m: float


def noisy_fix(latlon: tuple[float, float], error_m: float, seed: int) -> tuple[float, float]:
    """A simulated GPS fix: the position, moved up to ``error_m`` in a direction of chance.

    Evenly over the disc, and the same each time for the same seed.
    """
    generator = np.random.default_rng(seed)
    distance, azimuth = error_m * math.sqrt(generator.random()), 360 * generator.random()
    lon, lat, _ = Geod(ellps="WGS84").fwd(latlon[1], latlon[0], azimuth, distance)
    return lat, lon


def tiles_within(latlon: NDArray[np.float64], near: Near | tuple[float, float, float]) -> Indices:
    """The tiles whose centres (N, 2) lie within the circle (geodesic, its edge included), in order.

    Raises :class:`NearError` if there are none, with the distance of the nearest.
    """
    lat, lon, radius = near
    if not (math.isfinite(lat) and abs(lat) < 90 and math.isfinite(lon) and abs(lon) <= 360):
        raise NearError(f"the fix is ({lat}, {lon}): expected degrees (lat, lon), |lat| < 90")
    if not radius > 0:
        raise NearError(f"the radius is {radius} m: expected more than 0")
    around = _roughly_within(latlon, lat, lon, radius)
    inside = around[_distances(latlon[around], lat, lon) <= radius]
    if not len(inside):
        nearest = _distances(latlon, lat, lon).min()
        raise NearError(
            f"no tile's centre lies within {radius:g} m of ({lat:.6f}, {lon:.6f}): the nearest is "
            f"{nearest:,.0f} m away; widen the radius or check the position"
        )
    return inside


def best_among(
    queries: Tensor, gallery: Tensor, tiles: Indices, k: int
) -> tuple[Indices, NDArray[np.float64]]:
    """:func:`vigorlib.retrieval.best` among some tiles of the gallery: (Q, min(k, tiles)) each.

    tiles: in ascending order. Exact: each piece's best by exact similarity, then the best of those.
    """
    found, similarity = [], []
    for part in (tiles[i : i + PIECE] for i in range(0, len(tiles), PIECE)):
        rows = gallery[torch.from_numpy(part).to(gallery.device)]
        top, values = best(queries, rows, k)
        found.append(part[top])
        similarity.append(values)
    tile, value = np.concatenate(found, axis=1), np.concatenate(similarity, axis=1)
    order = np.lexsort((tile, -value))[:, :k]
    return np.take_along_axis(tile, order, 1), np.take_along_axis(value, order, 1)


def _distances(latlon: NDArray[np.float64], lat: float, lon: float) -> NDArray[np.float64]:
    return great_circle_m(latlon[:, 0], latlon[:, 1], lat, lon)


def _roughly_within(latlon: NDArray[np.float64], lat: float, lon: float, radius: float) -> Indices:
    """A box that holds the circle: geodesics to a whole gallery would take long."""
    reach = radius / METRES_A_DEGREE
    north = np.abs(latlon[:, 0] - lat) <= reach
    edge = min(abs(lat) + reach, 89.9)
    wide = reach / math.cos(math.radians(edge))
    east = np.abs((latlon[:, 1] - lon + 180) % 360 - 180) <= wide
    return np.flatnonzero(north & (east | (abs(lat) + reach >= 89.9)))

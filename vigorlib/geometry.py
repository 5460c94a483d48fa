"""Where a query stands on a tile: pixels, degrees, metres, and the IOU of overlapping tiles.

The convention of the whole project is VIGOR's own: an *offset* is "tile centre minus query",
ordered ``[north, east]`` and measured in pixels of the 640 px tile. A query with offset
``(d_north, d_east)`` therefore stands at row ``320 + d_north`` and column ``320 - d_east``.

Three *label systems* turn positions into offsets (see the book's chapter on geometry):

``original``   the first label files: a sphere and 0.114 m/px everywhere;
``corrected``  SliceMatch's label files: WGS84 UTM metres over a per-city resolution, rounded;
``mercator``   Web-Mercator pixels at zoom 20, the grid the tiles were cut from; no constant at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod, Transformer

LabelSystem = Literal["original", "corrected", "mercator"]
DistanceMethod = Literal["geodesic", "haversine", "official"]
ArrayOrTensor = TypeVar("ArrayOrTensor")

TILE_PX = 640
HALF_TILE_PX = TILE_PX // 2
ZOOM = 20
MERCATOR_PX = 256 * 2**ZOOM
"""Width of the whole world in Web-Mercator pixels at zoom 20."""

OFFICIAL_RESOLUTION_M = 0.114
"""Metres per pixel that the original labels and the released evaluation assume everywhere."""
OFFICIAL_RADIUS_M = 6_371_004.0
"""Radius of the sphere on which the released evaluation measures distances."""
LATITUDE_STEP_DEG = 0.0003280724526376747
"""Spacing of the tile grid in latitude, the loader's constant: half a tile of 36.48 m."""

POSITIVE_HALF_PX = TILE_PX // 4
"""A tile is positive for the queries of its central half: |offset| <= 160 px on both axes."""


@dataclass(frozen=True)
class City:
    """Constants of one VIGOR city: true metres per pixel, UTM zone, longitude step of its grid."""

    name: str
    resolution_m: float
    utm_zone: int
    longitude_step_deg: float


CITIES: dict[str, City] = {
    city.name: city
    for city in (
        City("NewYork", 0.113248, 18, 0.00043301140280175833),
        City("Seattle", 0.100817, 10, 0.000486444231),
        City("SanFrancisco", 0.118141, 10, 0.000414997230),
        City("Chicago", 0.111262, 16, 0.000440589392),
    )
}
"""The four cities in the order of the released code. Resolutions: SliceMatch's corrected labels."""

_WGS84 = Geod(ellps="WGS84")


def city_constants(city: str | None, lat_deg: float, lon_deg: float) -> City:
    """Constants of ``city``; for ``None`` (your own area) those its position implies."""
    if city is None:
        cosine = np.cos(np.deg2rad(lat_deg))
        resolution = 2 * np.pi * 6_378_137.0 * cosine / MERCATOR_PX
        return City(
            "", float(resolution), int((lon_deg + 180) // 6) + 1, LATITUDE_STEP_DEG / cosine
        )
    if city not in CITIES:
        raise ValueError(
            f"unknown city {city!r}: expected one of {', '.join(CITIES)}, "
            "or None for an area of your own"
        )
    return CITIES[city]


# -- overlap ---------------------------------------------------------------------------------


def tile_iou(offset_px: ArrayOrTensor, side_px: float = TILE_PX) -> ArrayOrTensor:
    """IOU of a tile with the tile centred on the query (VIGOR, section 3.1).

    offset_px: (..., 2) offsets in pixels, numpy array or torch tensor; returns (...).
    With f = (1 - |d_n|/L)(1 - |d_e|/L) the intersection over L^2, IOU = f / (2 - f).
    """
    offset = offset_px if hasattr(offset_px, "shape") else np.asarray(offset_px, dtype=float)
    _require_pairs(offset, "offset_px")
    overlap = (1 - abs(offset) / side_px).clip(0)  # type: ignore[arg-type]
    shared = overlap[..., 0] * overlap[..., 1]
    return shared / (2 - shared)


def is_positive(offset_px: ArrayLike, half_px: float = POSITIVE_HALF_PX) -> NDArray[np.bool_]:
    """Whether the query lies in the tile's central L/2 x L/2 square. (..., 2) -> (...)."""
    return (np.abs(np.asarray(offset_px, dtype=float)) <= half_px).all(axis=-1)


def covers(offset_px: ArrayLike, half_px: float = HALF_TILE_PX) -> NDArray[np.bool_]:
    """Whether the query lies on the tile at all. (..., 2) -> (...)."""
    return (np.abs(np.asarray(offset_px, dtype=float)) <= half_px).all(axis=-1)


def query_pixel(offset_px: ArrayLike, side_px: float = TILE_PX) -> NDArray[np.float64]:
    """(row, column) of the query on a tile drawn ``side_px`` wide. (..., 2) -> (..., 2)."""
    offset = np.asarray(offset_px, dtype=float)
    _require_pairs(offset, "offset_px")
    return (HALF_TILE_PX + offset * (1.0, -1.0)) * (side_px / TILE_PX)


def offset_of_pixel(pixel: ArrayLike, side_px: float = TILE_PX) -> NDArray[np.float64]:
    """Inverse of :func:`query_pixel`: (row, column) on the drawn tile -> offset in pixels."""
    return (np.asarray(pixel, dtype=float) * (TILE_PX / side_px) - HALF_TILE_PX) * (1.0, -1.0)


# -- label systems ---------------------------------------------------------------------------


def mercator_px(latlon: ArrayLike) -> NDArray[np.float64]:
    """Web-Mercator pixel coordinates (x east, y south) at zoom 20. (..., 2) degrees -> (..., 2)."""
    latlon = _latlon(latlon, "latlon")
    lat = np.deg2rad(latlon[..., 0])
    x = latlon[..., 1] / 360 + 0.5
    y = 0.5 - _stretched(lat) / (2 * np.pi)
    return np.stack([x, y], axis=-1) * MERCATOR_PX


# By the C library: NumPy's own sine has another last digit on processors with AVX-512, and the city
# would be photographed from elsewhere by a millionth of a millimetre: enough for another byte.
_stretched = np.vectorize(lambda lat: math.atanh(math.sin(lat)), otypes=[float])


def mercator_latlon(pixel: ArrayLike) -> NDArray[np.float64]:
    """Inverse of :func:`mercator_px`: (..., 2) pixels (x, y) -> (..., 2) degrees (lat, lon)."""
    x, y = np.moveaxis(np.asarray(pixel, dtype=float) / MERCATOR_PX, -1, 0)
    lat = np.rad2deg(np.arcsin(np.tanh((0.5 - y) * 2 * np.pi)))
    return np.stack([lat, (x - 0.5) * 360], axis=-1)


def label_offsets(
    pano_latlon: ArrayLike,
    tile_latlon: ArrayLike,
    city: str | None,
    system: LabelSystem = "original",
) -> NDArray[np.float64]:
    """Offsets (tile centre minus query) in pixels of the 640 px tile.

    pano_latlon, tile_latlon: (..., 2) degrees, broadcast against each other; returns (..., 2)
    as ``[north, east]``. ``corrected`` rounds to whole pixels (to nearest even), as its files do;
    the two others are exact. ``city`` names one of :data:`CITIES`, or None for your own area.
    """
    pano, tile = _latlon(pano_latlon, "pano_latlon"), _latlon(tile_latlon, "tile_latlon")
    if system == "mercator":
        return (mercator_px(tile) - mercator_px(pano))[..., ::-1] * (-1.0, 1.0)
    constants = city_constants(city, *tile.reshape(-1, 2).mean(axis=0))
    if system == "original":
        return (tile - pano) / _half_tile_deg(constants) * HALF_TILE_PX
    if system == "corrected":
        difference = _utm_m(tile, constants.utm_zone) - _utm_m(pano, constants.utm_zone)
        return np.rint(difference / constants.resolution_m)
    raise ValueError(_unknown_system(system))


def predicted_latlon(
    tile_latlon: ArrayLike,
    offset_px: ArrayLike,
    city: str | None,
    system: LabelSystem = "corrected",
) -> NDArray[np.float64]:
    """Where the query is: the inverse of :func:`label_offsets` (up to its rounding).

    tile_latlon (..., 2) degrees and offset_px (..., 2) pixels -> (..., 2) degrees.
    ``system`` must be the one the offsets were labelled (or trained) with.
    """
    tile, offset = _latlon(tile_latlon, "tile_latlon"), np.asarray(offset_px, dtype=float)
    _require_pairs(offset, "offset_px")
    if system == "mercator":
        return mercator_latlon(mercator_px(tile) + offset[..., ::-1] * (-1.0, 1.0))
    constants = city_constants(city, *tile.reshape(-1, 2).mean(axis=0))
    if system == "original":
        return tile - offset / HALF_TILE_PX * _half_tile_deg(constants)
    if system == "corrected":
        north_east = _utm_m(tile, constants.utm_zone) - offset * constants.resolution_m
        east, north = north_east[..., 1], north_east[..., 0]
        lon, lat = _utm(constants.utm_zone).transform(east, north, direction="INVERSE")
        return np.stack([lat, lon], axis=-1)
    raise ValueError(_unknown_system(system))


def great_circle_m(
    lat1: ArrayLike,
    lon1: ArrayLike,
    lat2: ArrayLike,
    lon2: ArrayLike,
    method: DistanceMethod = "geodesic",
) -> NDArray[np.float64]:
    """Metres between positions in degrees (broadcast).

    ``geodesic``: WGS84 ellipsoid. ``haversine``: the released code's sphere, computed stably.
    ``official``: the released code's arccos on that sphere, which cannot tell distances below
    about 0.1 m apart and gives NaN for some identical points; kept to reproduce its figures.
    """
    a1, o1, a2, o2 = np.broadcast_arrays(
        *(np.asarray(v, dtype=float) for v in (lat1, lon1, lat2, lon2))
    )
    if method == "geodesic":
        return np.asarray(_WGS84.inv(o1, a1, o2, a2)[2], dtype=float)
    p1, p2, dlon = np.deg2rad(a1), np.deg2rad(a2), np.deg2rad(o1 - o2)
    if method == "haversine":
        chord = np.sin((p1 - p2) / 2) ** 2 + np.cos(p1) * np.cos(p2) * np.sin(dlon / 2) ** 2
        return 2 * OFFICIAL_RADIUS_M * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
    if method == "official":
        with np.errstate(invalid="ignore"):
            cosine = np.sin(p1) * np.sin(p2) + np.cos(p1) * np.cos(p2) * np.cos(dlon)
            return OFFICIAL_RADIUS_M * np.arccos(cosine)
    raise ValueError(f"unknown method {method!r}: expected geodesic, haversine or official")


# -- helpers ---------------------------------------------------------------------------------


def _half_tile_deg(city: City) -> NDArray[np.float64]:
    return np.array([LATITUDE_STEP_DEG, city.longitude_step_deg])


@cache
def _utm(zone: int) -> Transformer:
    return Transformer.from_crs("EPSG:4326", f"EPSG:326{zone:02d}", always_xy=True)


def _utm_m(latlon: NDArray[np.float64], zone: int) -> NDArray[np.float64]:
    """(..., 2) degrees -> (..., 2) metres [northing, easting]."""
    east, north = _utm(zone).transform(latlon[..., 1], latlon[..., 0])
    return np.stack([north, east], axis=-1)


def _require_pairs(array: object, name: str) -> None:
    shape = tuple(getattr(array, "shape", ()))
    if not shape or shape[-1] != 2:
        raise ValueError(f"{name} has shape {shape}: expected (..., 2), [north, east]")


def _latlon(value: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=float)
    if not array.shape or array.shape[-1] != 2:
        raise ValueError(f"{name} has shape {array.shape}: expected (..., 2), degrees [lat, lon]")
    if array.size and not (np.abs(array[..., 0]) < 90).all():
        worst = array[..., 0].flat[np.argmax(np.abs(array[..., 0]))]
        raise ValueError(f"{name} has latitude {worst}: expected degrees [lat, lon], |lat| < 90")
    if array.size and not np.isfinite(array[..., 1]).all():
        raise ValueError(f"{name} has a longitude that is no number: expected degrees [lat, lon]")
    return array


def _unknown_system(system: str) -> str:
    return f"unknown label system {system!r}: expected original, corrected or mercator"

"""A city as a map of its own tiles, and where an answer lies on it: positions in pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from vigorlib.dataset import Places
from vigorlib.files import write_atomically
from vigorlib.geometry import TILE_PX, mercator_latlon, mercator_px
from vigorlib.images import city_mosaic, read_image
from vigorlib.located import Result
from vigorlib.nearby import Near

METRES_OF_A_DEGREE = 111_194.0
"""Of latitude, on the sphere; good to half a percent anywhere."""


MOST_PIXELS = 32e6


class MapError(ValueError):
    """Tiles of which no map can be made."""


@dataclass(frozen=True)
class CityMap:
    """A map and its scale.

    image: (H, W, 3) uint8, north up. tile_px: width of a tile on it. anchor_latlon, anchor_px: a
    position in degrees and the pixel [row, column] where it lies. span_px: width of a tile in
    pixels of Web-Mercator at zoom 20.
    """

    city: str
    image: NDArray[np.uint8]
    tile_px: int
    anchor_latlon: tuple[float, float]
    anchor_px: tuple[float, float]
    span_px: float = TILE_PX

    def to_pixel(self, latlon: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) degrees -> (..., 2) pixels [row, column]."""
        moved = mercator_px(latlon) - mercator_px(self.anchor_latlon)
        return moved[..., ::-1] * (self.tile_px / self.span_px) + self.anchor_px

    def to_latlon(self, pixel: ArrayLike) -> NDArray[np.float64]:
        """Inverse of :meth:`to_pixel`."""
        moved = (np.asarray(pixel, dtype=float) - self.anchor_px)[..., ::-1]
        return mercator_latlon(
            mercator_px(self.anchor_latlon) + moved * (self.span_px / self.tile_px)
        )

    @property
    def px_per_metre(self) -> float:
        """At the anchor; a city is too small for it to change."""
        lat, lon = self.anchor_latlon
        north = self.to_pixel((lat + 100 / METRES_OF_A_DEGREE, lon))
        return float(self.anchor_px[0] - north[0]) / 100

    def circle(self, near: Near) -> tuple[float, float, float]:
        """Centre row, column and radius of a searched area, in pixels."""
        row, column = self.to_pixel((near.lat_deg, near.lon_deg)).tolist()
        return row, column, near.radius_m * self.px_per_metre


@dataclass(frozen=True)
class Overlay:
    """An answer in pixels of a map, [row, column]; matches in other cities are left out.

    ranks: (M,) of the matches that lie on the map. boxes: (M, 4) top, left, bottom, right of their
    tiles. predicted: (M, 2) where they put the query. truth: (2,), or None. circle: centre row,
    column and radius of the area that was searched, or None.
    """

    ranks: NDArray[np.int64]
    boxes: NDArray[np.float64]
    predicted: NDArray[np.float64]
    truth: NDArray[np.float64] | None
    circle: tuple[float, float, float] | None


def city_map(
    tiles: Places,
    city: str,
    tile_px: int = 24,
    cache: Path | None = None,
    tile_m: float | None = None,
) -> CityMap:
    """Put a city's tiles together, or open the map that was kept in the folder ``cache``.

    tile_px: width of a tile on it; less where the map would grow beyond 32 million pixels. tile_m:
    width of the tiles on the ground, None for 640 px of Web-Mercator at zoom 20. Raises
    :class:`MapError` for an unknown city and for tiles too far apart for one map.
    """
    chosen = np.flatnonzero(tiles.cities == city)
    if not len(chosen):
        raise MapError(f"no tile of {city!r}: expected one of {sorted(set(tiles.cities.tolist()))}")
    tile_px = largest_tile_px(tiles.latlon[chosen], MOST_PIXELS, tile_px, tile_m)
    span_px = _span_px(tiles.latlon[chosen], tile_m)
    key = f"{_key(tiles, chosen)}-{tile_px}" + (f"-{tile_m:g}m" if tile_m else "")
    file = cache / f"map-{key}.png" if cache else None
    if file is not None and file.exists():
        image = read_image(file)
    else:
        image, _ = city_mosaic(tiles, city, tile_px, span_px)
        if file is not None:
            write_atomically(file, lambda path: Image.fromarray(image).save(path, "PNG"))
    corners = mercator_px(tiles.latlon[chosen])
    first = int(chosen[0])
    row_column = ((corners[0] - corners.min(axis=0)) * (tile_px / span_px))[::-1] + tile_px / 2
    lat, lon = tiles.latlon[first].tolist()
    return CityMap(city, image, tile_px, (lat, lon), tuple(row_column.tolist()), span_px)


def overlay(result: Result, on: CityMap) -> Overlay:
    """Where an answer lies on a map."""
    here = [match for match in result.matches if match.city == on.city]
    centres = on.to_pixel(np.array([(m.lat_deg, m.lon_deg) for m in here]).reshape(-1, 2))
    half = on.tile_px / 2
    predicted = np.array([(m.predicted_lat_deg, m.predicted_lon_deg) for m in here])
    return Overlay(
        np.array([m.rank for m in here], dtype=np.int64),
        np.concatenate([centres - half, centres + half], axis=1),
        on.to_pixel(predicted.reshape(-1, 2)),
        on.to_pixel(result.truth) if result.truth is not None else None,
        on.circle(result.near) if result.near is not None else None,
    )


def largest_tile_px(
    latlon: NDArray[np.float64], most_pixels: float, tile_px: int, tile_m: float | None = None
) -> int:
    """The wanted width of a tile, or the largest at which a map of all has ``most_pixels`` or less.

    latlon: (N, 2) of the tiles' centres. Raises :class:`MapError` where no width would do.
    """
    if tile_px < 1:
        raise MapError(f"tile_px is {tile_px}: expected at least 1")
    corners = mercator_px(latlon)
    height, width = (np.ptp(corners, axis=0) / _span_px(latlon, tile_m) + 1)[::-1]  # in tiles
    largest = int((most_pixels / (height * width)) ** 0.5)
    if largest < 1:
        raise MapError(
            f"the tiles spread over {width:,.0f} x {height:,.0f} tile widths: expected an area "
            "that fits on one map; split the folder"
        )
    return min(tile_px, largest)


def _span_px(latlon: NDArray[np.float64], tile_m: float | None) -> float:
    """Width of tiles in pixels of Web-Mercator at zoom 20, where they lie."""
    if tile_m is None:
        return TILE_PX
    lat, lon = latlon.mean(axis=0).tolist()
    south, north = mercator_px([(lat, lon), (lat + tile_m / METRES_OF_A_DEGREE, lon)])[:, 1]
    return float(south - north)


def _key(tiles: Places, chosen: NDArray[np.int64]) -> str:
    """Changes with every tile of the map."""
    digest = hashlib.sha256()
    for path in (tiles.path(int(index)) for index in chosen):
        digest.update(f"{path}:{path.stat().st_mtime_ns};".encode())
    return digest.hexdigest()[:16]

"""The grid of tiles, and whether four of them lie around each query. By the names' GPS alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.doctor import findings as f
from data_prep.doctor.findings import Findings
from data_prep.doctor.read import Rows, Tiles
from vigorlib.geometry import CITIES, LATITUDE_STEP_DEG

GRID_TOLERANCE = 1e-3
"""Steps of the grid. Published tiles are regular to 1e-7."""
COVER_TOLERANCE = 0.02
"""Steps of the grid (6 px). Names give the query's GPS to a micro-degree, about 1 px, and a few
published queries stand a hair beyond the border."""


def check_grid(city: str, tiles: Tiles, rectangle: bool, found: Findings) -> None:
    """Tiles that stand off the grid and, where it should be a full rectangle, its holes."""
    if not tiles.names:
        return
    anchor, grid = _on_grid(tiles.latlon, _step_deg(city))
    cells = np.rint(grid)
    off = (np.abs(grid - cells) > GRID_TOLERANCE).any(axis=1)
    found.add(f.OFF_GRID, city, (tiles.names[i] for i in np.flatnonzero(off)))
    at = cells[~off].astype(int)
    if rectangle and len(at):
        holes = anchor + _holes(at) * _step_deg(city)
        found.add(f.HOLES, city, (f"{lat:.6f}, {lon:.6f}" for lat, lon in holes))


def check_coverage(city: str, tiles: Tiles, rows: Rows, found: Findings) -> NDArray[np.bool_]:
    """Whether each query (Q,) lies in the four distinct tiles of its row, nearest to the first."""
    away = np.abs(tiles.latlon[rows.references] - rows.latlon[:, None]) / _step_deg(city)
    distinct = (np.diff(np.sort(rows.references, axis=1), axis=1) > 0).all(axis=1)
    covered = np.logical_and(distinct, (away <= 1 + COVER_TOLERANCE).all(axis=(1, 2)))
    centred = (away[:, 0] <= 0.5 + COVER_TOLERANCE).all(axis=1)
    found.add(f.UNCOVERED, city, (rows.row(i) for i in np.flatnonzero(~covered)))
    found.add(f.NOT_NEAREST, city, (rows.row(i) for i in np.flatnonzero(covered & ~centred)))
    return covered


def _on_grid(
    latlon: NDArray[np.float64], step_deg: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anchor (2,) in degrees of the grid that most tiles stand on; (N, 2) steps from there."""
    grid = (latlon - latlon[0]) / step_deg
    phase = np.angle(np.exp(2j * np.pi * grid).mean(axis=0)) / (2 * np.pi)
    # most lie near whole numbers now; the median is exact whatever a few tiles do
    phase += np.median(grid - phase - np.rint(grid - phase), axis=0)
    return latlon[0] + phase * step_deg, grid - phase


def _holes(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 2) cells -> (M, 2) cells of their bounding rectangle that are missing.

    A list that names tiles of two cities spans half a world: then rows and columns that hold
    nothing are left out.
    """
    rows, at_row = np.unique(cells[:, 0], return_inverse=True)
    columns, at_column = np.unique(cells[:, 1], return_inverse=True)
    filled = np.zeros((len(rows), len(columns)), dtype=bool)
    filled[at_row, at_column] = True
    missing = np.argwhere(~filled)
    return np.stack([rows[missing[:, 0]], columns[missing[:, 1]]], axis=1)


def _step_deg(city: str) -> NDArray[np.float64]:
    return np.array([LATITUDE_STEP_DEG, CITIES[city].longitude_step_deg])

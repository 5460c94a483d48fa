"""What makes each city itself: streets, blocks, houses, heights, colours, parks, water, trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = tuple[int, int, int]
Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """Settings of one city. Lengths in metres, angles in degrees, shares in [0, 1].

    angle_deg: of the street grid, clockwise. block_u, block_v: sizes of blocks along the two grid
    axes; street_u, street_v: widths of the streets between them. lot: widths of building lots.
    height_m: median height and its log-deviation. tower, gable: shares of buildings with a setback
    tower, with a pitched roof. park, parking: shares of blocks. tree: density. water: the side of
    the city that is a shore. diagonal: whether an avenue cuts the grid.
    lat_deg, lon_deg: the north-west corner of the tile grid.
    """

    name: str
    lat_deg: float
    lon_deg: float
    angle_deg: float
    block_u: Range
    block_v: Range
    street_u: Range
    street_v: Range
    lot: Range
    height_m: tuple[float, float]
    tower: float
    gable: float
    park: float
    parking: float
    tree: float
    water: Literal["", "north", "east", "west"]
    diagonal: bool
    walls: tuple[Colour, ...]
    asphalt: Colour
    pavement: Colour
    grass: Colour


NEW_YORK = Style(
    "NewYork",
    lat_deg=40.7562,
    lon_deg=-73.9948,
    angle_deg=29.0,
    block_u=(62, 80),
    block_v=(105, 150),
    street_u=(14, 24),
    street_v=(10, 15),
    lot=(16, 34),
    height_m=(24, 0.55),
    tower=0.22,
    gable=0.0,
    park=0.07,
    parking=0.04,
    tree=0.55,
    water="",
    diagonal=True,
    walls=(
        (150, 88, 70),
        (168, 116, 90),
        (122, 98, 84),
        (192, 176, 150),
        (164, 162, 158),
        (104, 114, 128),
        (200, 190, 172),
        (132, 70, 60),
    ),
    asphalt=(88, 88, 90),
    pavement=(174, 171, 165),
    grass=(94, 118, 66),
)

SEATTLE = Style(
    "Seattle",
    lat_deg=47.6188,
    lon_deg=-122.3442,
    angle_deg=-32.0,
    block_u=(72, 84),
    block_v=(78, 100),
    street_u=(13, 18),
    street_v=(11, 16),
    lot=(13, 27),
    height_m=(11, 0.6),
    tower=0.12,
    gable=0.45,
    park=0.12,
    parking=0.10,
    tree=1.0,
    water="west",
    diagonal=False,
    walls=(
        (142, 150, 148),
        (102, 118, 126),
        (180, 184, 180),
        (122, 108, 90),
        (158, 142, 118),
        (90, 96, 100),
        (196, 197, 194),
        (116, 132, 122),
    ),
    asphalt=(99, 100, 102),
    pavement=(165, 167, 164),
    grass=(78, 110, 62),
)

SAN_FRANCISCO = Style(
    "SanFrancisco",
    lat_deg=37.7942,
    lon_deg=-122.4382,
    angle_deg=9.0,
    block_u=(52, 66),
    block_v=(90, 120),
    street_u=(11, 20),
    street_v=(11, 15),
    lot=(9, 16),
    height_m=(10, 0.28),
    tower=0.05,
    gable=0.15,
    park=0.08,
    parking=0.03,
    tree=0.45,
    water="north",
    diagonal=True,
    walls=(
        (226, 211, 180),
        (202, 178, 154),
        (180, 194, 202),
        (220, 190, 178),
        (203, 208, 190),
        (234, 230, 222),
        (186, 152, 142),
        (172, 182, 164),
        (216, 202, 150),
    ),
    asphalt=(107, 105, 104),
    pavement=(194, 188, 179),
    grass=(124, 130, 80),
)

CHICAGO = Style(
    "Chicago",
    lat_deg=41.8868,
    lon_deg=-87.6446,
    angle_deg=1.5,
    block_u=(88, 104),
    block_v=(76, 96),
    street_u=(14, 22),
    street_v=(13, 18),
    lot=(12, 30),
    height_m=(14, 0.7),
    tower=0.15,
    gable=0.25,
    park=0.09,
    parking=0.10,
    tree=0.75,
    water="east",
    diagonal=True,
    walls=(
        (152, 84, 66),
        (172, 102, 78),
        (128, 74, 60),
        (196, 183, 158),
        (140, 140, 139),
        (108, 101, 95),
        (168, 148, 122),
        (96, 108, 114),
    ),
    asphalt=(92, 91, 89),
    pavement=(182, 178, 168),
    grass=(90, 121, 68),
)

STYLES: dict[str, Style] = {s.name: s for s in (NEW_YORK, SEATTLE, SAN_FRANCISCO, CHICAGO)}
"""The four cities, in the order of the released code."""

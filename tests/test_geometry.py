"""Pixels, degrees and metres: hand values, the published label files, and every way back."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vigorlib import geometry
from vigorlib.geometry import CITIES, LATITUDE_STEP_DEG, OFFICIAL_RADIUS_M

LABELS = os.environ.get("VIGOR_LABELS")
CENTRES = {
    "NewYork": (40.7366, -73.9890),
    "Seattle": (47.6100, -122.3300),
    "SanFrancisco": (37.7700, -122.4300),
    "Chicago": (41.8800, -87.6500),
}
SYSTEMS = ["original", "corrected", "mercator"]


# -- the published labels --------------------------------------------------------------------


def label_pairs(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (panorama, tile, offset) of a city's label files, read without the library."""
    panoramas, tiles, offsets = [], [], []
    for path in sorted(folder.glob("same_area_balanced_t*__corrected.txt*")):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt") as file:
            for line in file:
                name, *rest = line.split()
                for tile, north, east in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
                    panoramas.append([float(part) for part in name.split(",")[-3:-1]])
                    tiles.append([float(part) for part in tile[: -len(".png")].split("_")[1:]])
                    offsets.append([float(north), float(east)])
    return np.array(panoramas), np.array(tiles), np.array(offsets)


@pytest.mark.skipif(not LABELS, reason="VIGOR_LABELS names no folder of real label files")
def test_corrected_reproduces_every_pair_of_the_published_chicago_labels():
    panoramas, tiles, published = label_pairs(Path(LABELS) / "Chicago")
    assert len(published) == 101_916
    computed = geometry.label_offsets(panoramas, tiles, "Chicago", "corrected")
    np.testing.assert_array_equal(computed, published)


@pytest.mark.skipif(not LABELS, reason="VIGOR_LABELS names no folder of real label files")
def test_published_labels_lead_back_to_their_panoramas():
    panoramas, tiles, published = label_pairs(Path(LABELS) / "Chicago")
    found = geometry.predicted_latlon(tiles, published, "Chicago", "corrected")
    error = geometry.great_circle_m(*panoramas.T, *found.T)
    assert error.max() < 0.111262 * math.sqrt(0.5) * 1.001  # half a pixel on both axes
    wrong = geometry.predicted_latlon(tiles, published, "Chicago", "original")
    assert np.median(geometry.great_circle_m(*panoramas.T, *wrong.T)) > 5 * np.median(error)


# -- constants -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("city", "percent"),
    [("NewYork", 0.66), ("Seattle", 13.08), ("SanFrancisco", -3.51), ("Chicago", 2.46)],
)
def test_one_resolution_for_all_cities_errs_by_known_shares(city, percent):
    assert 100 * (0.114 / CITIES[city].resolution_m - 1) == pytest.approx(percent, abs=0.005)
    pano = np.array(CENTRES[city])
    tile = pano + (0.01, 0.0)  # a kilometre: rounding to pixels is lost in it
    true, assumed = (
        geometry.label_offsets(pano, tile, city, system)[0] for system in ("corrected", "original")
    )
    assert 100 * (true / assumed - 1) == pytest.approx(percent, abs=0.3)


@pytest.mark.parametrize("city", CITIES)
def test_corrected_resolution_is_that_of_the_web_mercator_grid(city):
    equator_m = 2 * math.pi * 6_378_137
    mercator = equator_m * math.cos(math.radians(CENTRES[city][0])) / (256 * 2**20)
    assert mercator == pytest.approx(CITIES[city].resolution_m, rel=3e-3)


def test_the_grid_step_is_half_a_tile_of_the_official_resolution():
    half_tile_m = math.radians(LATITUDE_STEP_DEG) * OFFICIAL_RADIUS_M
    assert half_tile_m == pytest.approx(320 * 0.114, rel=1e-6)


@pytest.mark.parametrize("city", CITIES)
def test_one_step_of_a_citys_grid_is_half_a_tile_on_both_axes(city):
    tile = np.array(CENTRES[city])
    square_step_deg = LATITUDE_STEP_DEG / math.cos(math.radians(tile[0]))
    pano = tile - (LATITUDE_STEP_DEG, square_step_deg)
    original = geometry.label_offsets(pano, tile, city, "original")
    np.testing.assert_allclose(original, (320, 320), rtol=2e-3)
    exact = geometry.label_offsets(pano, tile, city, "mercator")
    true_px = 320 * 0.114 / CITIES[city].resolution_m  # 362 in Seattle
    np.testing.assert_allclose(exact, (true_px, true_px), rtol=5e-3)


def test_an_area_of_your_own_takes_its_constants_from_its_position():
    lat, lon = CENTRES["Chicago"]
    own = geometry.city_constants(None, lat, lon)
    assert own.utm_zone == CITIES["Chicago"].utm_zone
    assert own.resolution_m == pytest.approx(CITIES["Chicago"].resolution_m, rel=3e-3)
    assert own.longitude_step_deg == pytest.approx(CITIES["Chicago"].longitude_step_deg, rel=3e-3)
    assert geometry.city_constants(None, 0.0, -180.0).utm_zone == 1
    assert geometry.city_constants(None, 0.0, 179.9).utm_zone == 60


# -- overlap ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "iou"),
    [
        ((0, 0), 1.0),
        ((80, 80), 49 / 79),  # f = (7/8)^2
        ((160, 160), 9 / 23),  # f = (3/4)^2
        ((320, 0), 1 / 3),  # f = 1/2
        ((320, 160), 3 / 13),  # f = 1/2 * 3/4
        ((320, 320), 1 / 7),  # f = 1/4
        ((640, 0), 0.0),
        ((900, 900), 0.0),  # apart on both axes: no product of two negatives
    ],
)
def test_iou_equals_hand_values_in_every_quadrant(offset, iou):
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        assert float(geometry.tile_iou(np.multiply(offset, signs))) == pytest.approx(iou, abs=1e-15)
    assert float(geometry.tile_iou(offset[::-1])) == pytest.approx(iou, abs=1e-15)


def test_iou_is_the_area_of_two_squares_counted_by_throwing_darts():
    darts = np.random.default_rng(0).uniform(-1280, 1280, (400_000, 2))
    on_query = (np.abs(darts) <= 320).all(axis=1)
    for offset in ((40.0, -250.0), (-160.0, 160.0), (300.0, 10.0)):
        on_tile = (np.abs(darts - offset) <= 320).all(axis=1)
        counted = (on_query & on_tile).sum() / (on_query | on_tile).sum()
        assert float(geometry.tile_iou(np.array(offset))) == pytest.approx(counted, abs=0.012)


def test_mean_iou_over_the_positive_square_equals_its_series():
    # IOU = sum (uv/2)^n for u, v uniform on [3/4, 1]; E[u^n] = 4 (1 - (3/4)^(n+1)) / (n + 1)
    expected = sum((4 * (1 - 0.75 ** (n + 1)) / (n + 1)) ** 2 / 2**n for n in range(1, 80))
    places = np.random.default_rng(1).uniform(-160, 160, (200_000, 2))
    drawn = geometry.tile_iou(places)
    assert drawn.mean() == pytest.approx(expected, abs=5 * drawn.std() / math.sqrt(len(drawn)))
    assert drawn.min() >= 9 / 23 and 0.6 < expected < 0.65


def test_torch_and_numpy_agree_on_the_iou():
    offset = np.random.default_rng(2).uniform(-800, 800, (7, 4, 2))
    expected = geometry.tile_iou(offset)
    tensor = geometry.tile_iou(torch.from_numpy(offset))
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
    assert expected.shape == (7, 4)
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=0, atol=1e-15)
    single = geometry.tile_iou(torch.from_numpy(offset).float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=1e-6)


def test_iou_depends_on_the_offset_in_tile_sides_only():
    offset = np.array([[30.0, -90.0], [10.0, 250.0]])
    np.testing.assert_allclose(
        geometry.tile_iou(offset / 5, side_px=128), geometry.tile_iou(offset), rtol=1e-14
    )


def test_positive_and_covered_include_their_borders():
    offset = np.array([[160, -160], [160.5, 0], [0, -161], [320, 320], [0, 321]])
    assert geometry.is_positive(offset).tolist() == [True, False, False, False, False]
    assert geometry.covers(offset).tolist() == [True, True, True, True, False]


# -- signs and round trips -------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("city", [*CITIES, None])
def test_offset_is_tile_minus_query_north_then_east(city, system):
    pano = np.array(CENTRES[city or "Seattle"])
    north = geometry.label_offsets(pano, pano + (LATITUDE_STEP_DEG, 0), city, system)
    east = geometry.label_offsets(pano, pano + (0, 4e-4), city, system)
    assert 300 < north[0] < 400 and abs(north[1]) < 6  # grid north leans by less than 1 degree
    assert 260 < east[1] < 340 and abs(east[0]) < 6


def test_a_query_stands_at_row_320_plus_north_and_column_320_minus_east():
    assert geometry.query_pixel((40, 100)).tolist() == [360, 220]
    assert geometry.query_pixel((-320, 320)).tolist() == [0, 0]
    assert geometry.query_pixel((40, 100), side_px=64).tolist() == [36, 22]


def test_a_query_north_east_of_the_centre_is_drawn_right_and_up():
    tile = np.array(CENTRES["Chicago"])
    offset = geometry.label_offsets(tile + (1e-4, 1e-4), tile, "Chicago", "corrected")
    row, column = geometry.query_pixel(offset)
    assert row < 320 < column


@pytest.mark.parametrize("side_px", [640, 128, 97.5])
def test_pixels_lead_back_to_offsets(side_px):
    offset = np.random.default_rng(3).uniform(-320, 320, (5, 4, 2))
    back = geometry.offset_of_pixel(geometry.query_pixel(offset, side_px), side_px)
    np.testing.assert_allclose(back, offset, atol=1e-10)


def places(city: str | None) -> tuple[np.ndarray, np.ndarray]:
    """200 queries within one tile of their tile, anywhere in a city."""
    rng = np.random.default_rng(4)
    tile = np.array(CENTRES[city or "Seattle"]) + rng.uniform(-0.02, 0.02, (200, 2))
    return tile + rng.uniform(-6e-4, 6e-4, tile.shape), tile


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("city", [*CITIES, None])
def test_positions_lead_to_offsets_and_back(city, system):
    pano, tile = places(city)
    offset = geometry.label_offsets(pano, tile, city, system)
    back = geometry.predicted_latlon(tile, offset, city, system)
    error = geometry.great_circle_m(*pano.T, *back.T)
    if system == "corrected":  # whole pixels: half of one on each axis
        limit = geometry.city_constants(city, *tile.mean(axis=0)).resolution_m * math.sqrt(0.5)
        assert 0.2 * limit < error.max() < 1.001 * limit
    else:
        assert error.max() < 1e-6


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("city", [*CITIES, None])
def test_offsets_lead_to_positions_and_back(city, system):
    _, tile = places(city)
    offset = np.random.default_rng(5).integers(-320, 321, tile.shape).astype(float)
    pano = geometry.predicted_latlon(tile, offset, city, system)
    again = geometry.label_offsets(pano, tile, city, system)
    np.testing.assert_allclose(again, offset, rtol=0, atol=0 if system == "corrected" else 2e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_four_tiles_a_query_broadcast_to_the_same_offsets_as_one_by_one(system):
    pano, tile = places("Seattle")
    tile = tile.reshape(50, 4, 2)
    offset = geometry.label_offsets(pano[:50, None], tile, "Seattle", system)
    assert offset.shape == (50, 4, 2)
    for k in range(4):
        alone = geometry.label_offsets(pano[:50], tile[:, k], "Seattle", system)
        np.testing.assert_array_equal(alone, offset[:, k])


@pytest.mark.parametrize("city", CITIES)
def test_mercator_and_corrected_agree_to_the_lean_of_grid_north(city):
    pano, tile = places(city)
    exact = geometry.label_offsets(pano, tile, city, "mercator")
    rounded = geometry.label_offsets(pano, tile, city, "corrected")
    assert np.array_equal(rounded, np.rint(rounded)) and not np.array_equal(exact, np.rint(exact))
    reach = np.linalg.norm(exact, axis=1)
    apart = np.linalg.norm(exact - rounded, axis=1)
    assert (apart < 0.8 + 0.018 * reach).all()  # 0.9 degrees and 0.5 % of scale, and rounding


def test_mercator_pixels_have_known_corners_and_an_inverse():
    world = 256 * 2**20
    assert geometry.mercator_px((0, 0)).tolist() == [world / 2, world / 2]
    edge = math.degrees(math.atan(math.sinh(math.pi)))  # 85.0511: the map is a square
    np.testing.assert_allclose(geometry.mercator_px((edge, -180)), (0, 0), atol=1e-5)
    latlon = np.array([[47.6, -122.3], [-33.9, 151.2], [0.0, 0.0]])
    back = geometry.mercator_latlon(geometry.mercator_px(latlon))
    np.testing.assert_allclose(back, latlon, atol=1e-12)


# -- distances -------------------------------------------------------------------------------


def test_distances_equal_known_arcs():
    one_degree = (0.0, 0.0, 0.0, 1.0)
    assert float(geometry.great_circle_m(*one_degree)) == pytest.approx(111_319.491, abs=1e-3)
    meridian = float(geometry.great_circle_m(0.0, 0.0, 1.0, 0.0))
    assert meridian == pytest.approx(110_574.389, abs=1e-3)
    for method in ("haversine", "official"):
        arc = float(geometry.great_circle_m(*one_degree, method=method))
        assert arc == pytest.approx(OFFICIAL_RADIUS_M * math.pi / 180, rel=1e-9)
        quarter = float(geometry.great_circle_m(0.0, 10.0, 90.0, 55.0, method=method))
        assert quarter == pytest.approx(OFFICIAL_RADIUS_M * math.pi / 2, rel=1e-12)


def test_distance_methods_agree_from_ten_metres_up():
    pano, tile = places("Chicago")
    geodesic, haversine, official = (
        geometry.great_circle_m(*pano.T, *tile.T, method=method)
        for method in ("geodesic", "haversine", "official")
    )
    far = geodesic > 10
    assert far.sum() > 150
    np.testing.assert_allclose(haversine[far], geodesic[far], rtol=4e-3)  # sphere and ellipsoid
    np.testing.assert_allclose(official[far], haversine[far], rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", ["geodesic", "haversine"])
def test_distances_are_symmetric_broadcast_and_exact_near_zero(method):
    pano, tile = places("NewYork")
    there = geometry.great_circle_m(*pano.T, *tile.T, method=method)
    np.testing.assert_allclose(geometry.great_circle_m(*tile.T, *pano.T, method=method), there)
    assert (geometry.great_circle_m(*pano.T, *pano.T, method=method) == 0).all()
    lat, lon = CENTRES["NewYork"]
    steps = np.arange(1, 200) * 1e-8  # millimetres
    near = geometry.great_circle_m(lat, lon, lat + steps, lon, method=method)
    assert near.shape == (199,)
    np.testing.assert_allclose(near, steps * 111_000, rtol=5e-3, atol=1e-8)


def test_the_official_distance_has_a_quantum_and_gives_nan_near_zero():
    rng = np.random.default_rng(6)
    lat, lon = rng.uniform(37, 48, 5000), rng.uniform(-123, -73, 5000)
    same = geometry.great_circle_m(lat, lon, lat, lon, method="official")
    assert 0 < np.isnan(same).mean() < 0.5
    quantum = OFFICIAL_RADIUS_M * math.acos(1 - 2**-53)
    assert quantum == pytest.approx(0.095, abs=5e-4)
    near = geometry.great_circle_m(lat, lon, lat + 1e-7, lon, method="official")  # 11 mm apart
    finite = near[np.isfinite(near)]
    assert set(np.round((finite / quantum) ** 2, 6)) <= set(range(6))  # nothing in between
    assert finite[finite > 0].min() == pytest.approx(quantum)


# -- errors ----------------------------------------------------------------------------------


def test_unknown_names_are_refused_with_what_is_known():
    point = CENTRES["Chicago"]
    with pytest.raises(ValueError, match="unknown city 'Boston': expected one of NewYork, Seattle"):
        geometry.label_offsets(point, point, "Boston", "corrected")
    with pytest.raises(ValueError, match="'utm': expected original, corrected or mercator"):
        geometry.label_offsets(point, point, "Chicago", "utm")
    with pytest.raises(ValueError, match="'utm': expected original, corrected or mercator"):
        geometry.predicted_latlon(point, (0, 0), "Chicago", "utm")
    with pytest.raises(ValueError, match="'cosine': expected geodesic, haversine or official"):
        geometry.great_circle_m(*point, *point, method="cosine")


def test_wrong_shapes_are_refused_by_name():
    point = CENTRES["Chicago"]
    with pytest.raises(ValueError, match=r"pano_latlon has shape \(3,\): expected \(\.\.\., 2\)"):
        geometry.label_offsets((1, 2, 3), point, "Chicago")
    with pytest.raises(ValueError, match=r"tile_latlon has shape \(\)"):
        geometry.label_offsets(point, 41.0, "Chicago")
    with pytest.raises(ValueError, match=r"offset_px has shape \(3,\).*\[north, east\]"):
        geometry.predicted_latlon(point, (1, 2, 3), "Chicago")
    for function in (geometry.tile_iou, geometry.query_pixel):
        with pytest.raises(ValueError, match=r"offset_px has shape \(4, 3\)"):
            function(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"offset_px has shape \(5,\)"):
        geometry.tile_iou(torch.zeros(5))


@pytest.mark.parametrize("latitude", [-122.4, 90.0, math.nan])
def test_swapped_or_missing_coordinates_are_refused_where_latitude_shows_it(latitude):
    with pytest.raises(ValueError, match=r"pano_latlon has latitude .*\[lat, lon\], \|lat\| < 90"):
        geometry.label_offsets(
            [CENTRES["Seattle"], (latitude, 47.6)], CENTRES["Seattle"], "Seattle", "mercator"
        )

"""Ten real photographs with GPS and heading are looked for among ten real aerial images.

The recorded network has seen neither a real street nor a real roof: what it makes of them is
printed, not asserted. What is asserted is that everything around it does its part.
"""

from __future__ import annotations

import csv
import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vigorlib import ground, home, runs
from vigorlib.geometry import great_circle_m
from vigorlib.localize import Localizer
from vigorlib.nearby import Near
from vigorlib.own_pictures import prepare, turned_north
from vigorlib.uploads import read_picture

PAIRS = os.environ.get("REAL_PAIRS")
pytestmark = pytest.mark.skipif(not PAIRS, reason="REAL_PAIRS names no folder of photograph pairs")

TILE_M, AERIAL_M, AERIAL_PX = 73.0, 250.0, 500
"""Width of a tile on the ground, as VIGOR's, and of the aerial image around each photograph."""
OFFSET_PX = np.array([90.0, -70.0])
"""Where the tiles' centres lie from the photographs: 10 m north, 8 m west."""


@pytest.fixture(scope="module")
def poses() -> list[dict[str, str]]:
    with (Path(str(PAIRS)) / "poses.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tiles(poses, tmp_path_factory) -> Path:
    """A folder of ten GPS-named tiles and two files that are none."""
    folder = tmp_path_factory.mktemp("helsinki") / "tiles"
    folder.mkdir()
    for pose in poses:
        centre = ground.position_on_tile(place(pose), -OFFSET_PX, TILE_M)
        north, east = OFFSET_PX / 640 * TILE_M
        middle = AERIAL_M / 2 + np.array([east, -north])  # metres right and down
        box = np.concatenate([middle - TILE_M / 2, middle + TILE_M / 2]) * AERIAL_PX / AERIAL_M
        with Image.open(Path(str(PAIRS)) / f"{pose['id']}_aerial.jpg") as aerial:
            tile = aerial.crop(tuple(box.round().astype(int).tolist()))
            tile.save(folder / f"satellite_{centre[0]:.8f}_{centre[1]:.8f}.jpg", quality=95)
    (folder / "satellite_60.1_24.9.jpg").write_bytes(b"broken")
    (folder / "readme.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> runs.Run:
    """The network that comes with the project, whatever was trained on this machine."""
    results = home.home() / "results"
    elsewhere = tmp_path_factory.mktemp("home")
    (elsewhere / "results").symlink_to(results)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(elsewhere))
        run = runs.find("vigor", "mini")
        assert run is not None and run.provenance == runs.RECORDED
        yield run


@pytest.fixture(scope="module")
def localizer(tiles, recorded) -> Localizer:
    return Localizer.from_folder(tiles, recorded, progress=False, tile_m=TILE_M)


def place(pose: dict[str, str]) -> np.ndarray:
    return np.array([float(pose["lat_deg"]), float(pose["lon_deg"])])


@functools.cache
def photograph(identifier: str):
    return read_picture(Path(str(PAIRS)) / f"{identifier}_ground.jpg")


def own_tile(localizer: Localizer, pose: dict[str, str]) -> int:
    latlon = localizer.tiles.latlon
    return int(great_circle_m(latlon[:, 0], latlon[:, 1], *place(pose)).argmin())


def test_the_area_is_indexed_once_and_says_what_it_left_out(
    localizer, tiles, recorded, monkeypatch
):
    assert len(localizer) == 10
    assert [name for name, _ in localizer.skipped] == ["readme.jpg", "satellite_60.1_24.9.jpg"]
    monkeypatch.setattr("vigorlib.gallery_store.PIECE", None)  # nothing is left to describe
    again = Localizer.from_folder(tiles, recorded, progress=False, tile_m=TILE_M)
    assert (again.gallery.values == localizer.gallery.values).all()


def test_every_photograph_is_looked_for_and_the_answer_holds_together(localizer, poses, capsys):
    ranks, headings = [], []
    for pose in poses:
        own = prepare(photograph(pose["id"]), heading_deg=float(pose["heading_deg"]))
        assert own.kind == "phone"
        truth = tuple(place(pose).tolist())
        result = localizer.locate(own, truth=truth, query=pose["id"])
        assert sorted(m.tile for m in result.matches) == list(range(10))
        right = next(m for m in result.matches if m.tile == own_tile(localizer, pose))
        assert right.true_offset_px == pytest.approx(tuple(OFFSET_PX), abs=0.1)
        assert right.distance_m == pytest.approx(np.hypot(*OFFSET_PX) / 640 * TILE_M, abs=0.02)
        for m in result.matches:  # the offset step stays on its tile
            found = np.array([m.predicted_lat_deg, m.predicted_lon_deg])
            assert ground.offset_on_tile(found, (m.lat_deg, m.lon_deg), TILE_M) == pytest.approx(
                m.offset_px, abs=0.01
            )
        turned = localizer.try_headings(prepare(photograph(pose["id"])), steps=36)
        away = (turned.best_deg - float(pose["heading_deg"]) + 180) % 360 - 180
        ranks.append(right.rank)
        headings.append(round(away))
    with capsys.disabled():
        print(
            f"\nranks of ten photographs among ten tiles: {ranks}; headings off by {headings} deg"
        )
    assert len(ranks) == 10


def test_around_its_gps_a_photograph_has_one_tile(localizer, poses, tmp_path):
    pose = poses[0]
    own = prepare(photograph(pose["id"]), heading_deg=float(pose["heading_deg"]))
    lat, lon = place(pose).tolist()
    result = localizer.locate(own, near=Near(lat, lon, 30.0), truth=(lat, lon))
    assert [m.tile for m in result.matches] == [own_tile(localizer, pose)] and result.searched == 1
    stored = json.loads(result.to_geojson(tmp_path / "found.geojson").read_text(encoding="utf-8"))
    assert [f["properties"]["kind"] for f in stored["features"]] == ["match", "truth"]
    assert len(result.to_csv(tmp_path / "found.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_a_photograph_lies_where_it_looked(poses):
    for pose in poses:
        heading = float(pose["heading_deg"])
        panorama = prepare(photograph(pose["id"]), heading_deg=heading).panorama
        centred = turned_north(panorama, -heading)
        seen = (centred != centred[0, 0]).any(axis=(0, 2))
        columns = np.flatnonzero(seen)
        assert columns.mean() == pytest.approx((panorama.shape[1] - 1) / 2, abs=2)


def test_the_ten_tiles_make_a_map(localizer, poses):
    drawn = localizer.map(tile_px=4)
    on_map = drawn.to_pixel(np.stack([place(pose) for pose in poses]))
    assert (on_map > -4).all() and (on_map < np.array(drawn.image.shape[:2]) + 4).all()

"""Ten real photographs and their aerial images, laid out as a VIGOR folder, go all the way through.

Ten pairs can show a broken convention, never a recall.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vigorlib import figures, geometry, images, model, runs, training
from vigorlib.dataset import Vigor
from vigorlib.recipes import get_profile, get_recipe

PAIRS = os.environ.get("REAL_PAIRS")
pytestmark = pytest.mark.skipif(not PAIRS, reason="REAL_PAIRS names no folder of photograph pairs")

AERIAL_M, TILE_M = 250.0, 64.0
"""Ground covered by an aerial image (500 px at 0.5 m) and by a tile cut from it."""


@pytest.fixture(scope="module")
def helsinki(tmp_path_factory) -> Path:
    """Each photograph becomes a query with four tiles, cut around it with VIGOR's overlap."""
    root = tmp_path_factory.mktemp("helsinki")
    city = root / "Helsinki"
    (city / "satellite").mkdir(parents=True)
    (city / "panorama").mkdir()
    with (Path(PAIRS) / "poses.csv").open() as file:
        poses = list(csv.DictReader(file))
    assert len(poses) == 10
    rows, tiles = [], []
    for k, pose in enumerate(poses):
        place = np.array([float(pose["lat_deg"]), float(pose["lon_deg"])])
        name = f"{pose['id']},{place[0]:.6f},{place[1]:.6f},.jpg"
        ground = Path(PAIRS) / f"{pose['id']}_ground.jpg"
        (city / "panorama" / name).write_bytes(ground.read_bytes())
        aerial = Image.open(Path(PAIRS) / f"{pose['id']}_aerial.jpg")
        fields = [name]
        offset = np.array([40.0 + 10 * k, -30.0 - 9 * k])  # where the positive stands, in pixels
        for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
            wanted = offset - np.array(step) * np.sign(offset) * 320
            centre = geometry.predicted_latlon(place, -wanted, None, "mercator")
            tile = f"satellite_{float(centre[0])!r}_{float(centre[1])!r}.png"
            metres = wanted / 640 * TILE_M
            row, column = AERIAL_M / 2 - metres[0], AERIAL_M / 2 + metres[1]
            box = np.array([column, row, column, row]) * 2 + np.array([-1, -1, 1, 1]) * TILE_M
            aerial.crop(tuple(box.round().astype(int))).resize((256, 256)).save(
                city / "satellite" / tile
            )
            fields += [tile, str(wanted[0]), str(wanted[1])]
            tiles.append(tile)
        rows.append(" ".join(fields))
    splits = root / "splits__corrected" / "Helsinki"
    splits.mkdir(parents=True)
    (splits / "satellite_list.txt").write_text("\n".join(tiles))
    for subset in ("train", "test"):
        path = splits / f"same_area_balanced_{subset}__corrected.txt"
        path.write_text("\n".join(rows))
    return root


def test_real_photographs_are_read(helsinki):
    data = Vigor(helsinki, subset="test", cities=["Helsinki"])
    assert len(data) == 10 and len(data.tiles) == 40
    for k in range(10):
        assert images.read_image(data.queries.path(k)).std() > 10


def test_real_gps_agrees_with_the_offsets(helsinki):
    data = Vigor(helsinki, subset="test", cities=["Helsinki"])
    computed = geometry.label_offsets(
        data.queries.latlon[:, None], data.tiles.latlon[data.references], None, "mercator"
    )
    assert np.abs(computed - data.offsets_px).max() < 1.5  # six decimals in the names are 0.1 m


def test_real_pairs_go_through_an_epoch_evaluation_and_figures(helsinki, monkeypatch):
    constants = geometry.city_constants(None, 60.24, 24.9)
    monkeypatch.setitem(
        geometry.CITIES, "Helsinki", dataclasses.replace(constants, name="Helsinki")
    )
    profile = dataclasses.replace(
        get_profile("smoke"), batch=4, hybrid_batch=4, epochs={"same-area": (1, 1)}
    )
    data = Vigor(helsinki, subset="test", cities=["Helsinki"])
    photos = runs.Photographs(
        data,
        images.Pixels(data.queries.paths(), *profile.panorama_px),
        images.Pixels(data.tiles.paths(), *profile.tile_px),
    )
    torch.manual_seed(0)
    network = model.build("vigor", profile)
    trainer = training.Trainer(
        network,
        data,
        images.Pixels(data.queries.paths(), *profile.panorama_px, cache=helsinki / "c"),
        images.Pixels(data.tiles.paths(), *profile.tile_px, cache=helsinki / "c"),
        dataclasses.replace(get_recipe("vigor"), mining=False),
        profile,
        progress=False,
    )
    assert trainer.train().step == 4
    photos = runs.Photographs(data, trainer.panoramas, trainer.tiles)
    metrics, _, arrays = runs.evaluate(network, photos, profile, progress=False)
    assert 0 <= metrics["top1"] <= 1 and np.isfinite(arrays["error_m"]).all()
    street = images.read_image(data.queries.path(0))
    tiles = [images.read_image(data.tiles.path(t)) for t in data.references[0]]
    assert figures.query_and_tiles(street, tiles, data.offsets_px[0]).axes

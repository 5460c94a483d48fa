"""An area of your own: its tiles, what is kept of them, and what is noticed."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vigorlib import area, gallery_store, geometry, ground, model, retrieval
from vigorlib.area import AreaError
from vigorlib.files import read_sealed, sealed, write_json
from vigorlib.gallery_store import GalleryError, open_gallery
from vigorlib.recipes import get_profile


@pytest.fixture(scope="module")
def network() -> model.CrossViewNet:
    torch.manual_seed(0)
    return model.build("vigor", "smoke").eval()


@pytest.fixture
def tiles(city_root, tmp_path) -> Path:
    """Twelve tiles of a city, on their own."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for path in sorted((city_root / "Seattle" / "satellite").iterdir())[:12]:
        shutil.copy2(path, folder)
    return folder


@pytest.fixture
def described(monkeypatch) -> list[int]:
    """How many tiles each call described."""
    counts: list[int] = []
    real = gallery_store.describe_pictures

    def counting(branch, images, *rest):
        counts.append(len(images))
        return real(branch, images, *rest)

    monkeypatch.setattr(gallery_store, "describe_pictures", counting)
    return counts


def opened(tiles: Path, network, **options) -> gallery_store.StoredGallery:
    found, profile = area.scan(tiles).tiles, get_profile("smoke")
    return open_gallery(tiles.parent / "kept", found, network, profile, False, True, **options)


# -- the folder ------------------------------------------------------------------------------


def test_positions_come_from_names(tiles):
    found = area.scan(tiles)
    assert len(found.tiles) == 12 and not found.skipped
    name = found.tiles.path(3).name
    assert found.tiles.path(3).exists() and name == f"satellite_{_text(found.tiles.latlon[3])}.png"


def test_other_endings_and_a_city_of_vigor_are_welcome(tiles):
    first, second, *_ = sorted(tiles.iterdir())
    first.rename(first.with_suffix(".jpg"))
    second.rename(second.with_suffix(".JPEG"))
    inner = tiles.parent / "Seattle" / "satellite"
    shutil.copytree(tiles, inner)
    assert len(area.scan(inner.parent).tiles) == len(area.scan(tiles).tiles) == 12


def test_what_is_no_tile_is_listed_with_its_reason(tiles):
    twin = sorted(tiles.iterdir())[0]
    shutil.copy(twin, twin.with_suffix(".jpg"))
    for name in ("holiday.png", "satellite_99.0_10.0.png", "satellite_nan_10.0.png"):
        shutil.copy(twin, tiles / name)
    (tiles / "notes.txt").write_text("not an image")
    found = area.scan(tiles)
    assert len(found.tiles) == 12
    reasons = dict(found.skipped)
    assert len(reasons) == 4 and "it lies where" in reasons[twin.name]
    assert "gives no position" in reasons["holiday.png"]


def test_a_folder_without_tiles_says_what_was_expected(tmp_path):
    with pytest.raises(AreaError, match="satellite_<lat>_<lon>.png"):
        area.scan(tmp_path)
    with pytest.raises(AreaError, match="is not a folder"):
        area.scan(tmp_path / "nowhere")


def test_positions_and_offsets_are_each_others_inverse():
    tile, offset = np.array([60.2, 24.9]), np.array([[100.0, -50.0], [0.0, 0.0], [-320.0, 200.0]])
    for tile_m in (None, 64.0):
        place = ground.position_on_tile(np.tile(tile, (3, 1)), offset, tile_m)
        assert np.allclose(ground.offset_on_tile(place, tile, tile_m), offset, atol=1e-3)
    north_m, east_m = -10.0, 5.0  # offset: tile centre minus query
    place = ground.position_on_tile(tile, offset[0], 64.0)
    assert geometry.great_circle_m(*place, *tile) == pytest.approx(np.hypot(north_m, east_m), 1e-6)
    assert place[0] < tile[0] and place[1] > tile[1]


# -- the descriptors -------------------------------------------------------------------------


def test_the_second_time_nothing_is_described(tiles, network, described):
    first = opened(tiles, network)
    assert described == [12] and first.fresh and len(first.descriptors) == 12
    second = opened(tiles, network)
    assert described == [12] and not second.fresh
    assert (first.descriptors.values == second.descriptors.values).all()
    assert (first.descriptors.lengths == second.descriptors.lengths).all()


def test_rows_are_what_the_network_says_of_each_tile(tiles, network):
    stored = opened(tiles, network)
    path = area.scan(tiles).tiles.path(7)
    pixels = torch.from_numpy(gallery_store.Pixels([path], 32, 32)[[0]].numpy())
    with torch.inference_mode():
        raw = network.describe_satellite(pixels)[0]
    assert torch.allclose(stored.descriptors.raw(torch.tensor([7]))[0], raw, rtol=1e-4, atol=1e-6)


def test_only_a_changed_tile_is_described_again(tiles, network, described):
    before = opened(tiles, network).descriptors.values.clone()
    path = area.scan(tiles).tiles.path(5)
    Image.new("RGB", (64, 64), "red").save(path)
    after = opened(tiles, network).descriptors.values
    assert described == [12, 1]
    assert [i for i in range(12) if not torch.equal(before[i], after[i])] == [5]


def test_new_and_removed_tiles_are_noticed(tiles, network, described, city_root):
    opened(tiles, network)
    sorted(tiles.iterdir())[0].unlink()
    shutil.copy2(sorted((city_root / "Seattle" / "satellite").iterdir())[12], tiles)
    assert len(opened(tiles, network).descriptors) == 12 and described == [12, 1]


def test_another_network_is_noticed(tiles, network, described):
    opened(tiles, network)
    torch.manual_seed(1)
    other = model.build("vigor", "smoke").eval()
    assert gallery_store.fingerprint(other) != gallery_store.fingerprint(network)
    assert opened(tiles, other).fresh and described == [12, 12]


def test_an_interruption_loses_a_piece_at_most(tiles, network, monkeypatch):
    monkeypatch.setattr(gallery_store, "PIECE", 4)
    whole = opened(tiles, network).descriptors.values.clone()
    shutil.rmtree(tiles.parent / "kept")
    real, calls = gallery_store.describe_pictures, []

    def interrupted(branch, images, *rest):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(images))
        return real(branch, images, *rest)

    monkeypatch.setattr(gallery_store, "describe_pictures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(tiles, network)
    calls.clear()
    again = opened(tiles, network)
    assert calls == [4] and torch.equal(again.descriptors.values, whole)
    assert not list((tiles.parent / "kept").glob("*partial*"))


def test_an_interruption_at_the_very_end_leaves_no_empty_rows(tiles, network, monkeypatch):
    whole = opened(tiles, network).descriptors.values.clone()
    shutil.rmtree(tiles.parent / "kept")
    with monkeypatch.context() as patch:  # the files are in place, the manifest is not
        patch.setattr(gallery_store, "write_json", None)
        with pytest.raises(TypeError):
            opened(tiles, network)
    assert torch.equal(opened(tiles, network).descriptors.values, whole)


def test_a_damaged_older_gallery_is_not_taken_over(tiles, network, described):
    opened(tiles, network)
    (file,) = (tiles.parent / "kept").glob("*.descriptors.npy")
    file.write_bytes(file.read_bytes()[:-40])
    sorted(tiles.iterdir())[0].unlink()
    assert len(opened(tiles, network).descriptors) == 11 and described == [12, 11]


@pytest.mark.parametrize("end", ["descriptors.npy", "lengths.npy"])
def test_damaged_descriptors_are_not_used(tiles, network, end):
    opened(tiles, network)
    (file,) = (tiles.parent / "kept").glob(f"*.{end}")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(GalleryError, match="damaged.*remove the folder"):
        opened(tiles, network)


def test_bad_tiles_are_left_out_and_listed(tiles, network):
    names = area.scan(tiles).tiles.names
    (tiles / names[0]).write_bytes(b"")
    (tiles / names[6]).write_bytes((tiles / names[6]).read_bytes()[:200])
    for _ in range(2):  # computed, then opened
        stored = opened(tiles, network)
        assert [name for name, _ in stored.bad] == [names[0], names[6]]
        assert all("cannot be decoded" in reason for _, reason in stored.bad)
        assert len(stored.descriptors) == 10 and stored.kept.tolist() == [
            1,
            2,
            3,
            4,
            5,
            7,
            8,
            9,
            10,
            11,
        ]


def test_a_mended_tile_joins_the_others(tiles, network, described):
    path = area.scan(tiles).tiles.path(2)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert len(opened(tiles, network).descriptors) == 11
    path.write_bytes(whole)
    assert len(opened(tiles, network).descriptors) == 12 and described == [11, 1]


def test_without_one_good_tile_there_is_no_gallery(tiles, network):
    found = area.scan(tiles).tiles
    for path in tiles.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(GalleryError, match="none of the 12 tiles can be read"):
        opened(tiles, network)
    with pytest.raises(GalleryError, match="no tiles"):
        nothing = area.among(found, np.arange(0))
        open_gallery(tiles, nothing, network, get_profile("smoke"))


def test_a_changed_date_or_input_size_is_a_change(tiles, network, described):
    opened(tiles, network)
    os.utime(area.scan(tiles).tiles.path(0), (1, 1))
    opened(tiles, network)
    assert described == [12, 1]
    brighter = dataclasses.replace(get_profile("smoke"), precision="bfloat16")
    found = area.scan(tiles).tiles
    assert open_gallery(tiles.parent / "kept", found, network, brighter, False).fresh


def _text(latlon: np.ndarray) -> str:
    return "_".join(repr(float(value)) for value in latlon)


def test_a_large_gallery_is_kept_in_eight_bits_too_and_answers_the_same(
    tiles, network, monkeypatch
):
    small = opened(tiles, network)
    shutil.rmtree(tiles.parent / "kept")
    monkeypatch.setattr(gallery_store, "LARGE_BYTES", 1)
    for _ in range(2):  # computed, then opened
        stored = opened(tiles, network)
        assert small.shortlist is None and stored.shortlist is not None
        values = stored.descriptors.values
        found, similarity = stored.shortlist.search(values[:2], 5)
        expected, exact = retrieval.best(values[:2], values, 5)
        assert (found == expected).all() and (similarity == exact).all()


def test_a_stored_gallery_of_an_older_version_opens_and_is_searched_whole(
    tiles, network, monkeypatch
):
    monkeypatch.setattr(gallery_store, "LARGE_BYTES", 1)
    new = opened(tiles, network)
    (manifest,) = (tiles.parent / "kept").glob("*.json")
    content = read_sealed(manifest)
    del content["rough"]
    write_json(manifest, sealed(content))
    old = opened(tiles, network)
    assert not old.fresh and old.shortlist is None
    assert (old.descriptors.values == new.descriptors.values).all()


def test_broken_descriptors_are_refused_when_they_are_written(tiles, network, monkeypatch):
    real = gallery_store.describe_pictures

    def broken(*arguments):
        found = real(*arguments)
        values = found.values.clone()
        values[3] = np.nan
        return dataclasses.replace(found, values=values)

    monkeypatch.setattr(gallery_store, "describe_pictures", broken)
    with pytest.raises(ValueError, match="row 3 .* has length nan"):
        opened(tiles, network)
    monkeypatch.undo()
    assert len(opened(tiles, network).descriptors) == 12


@pytest.mark.parametrize("ending", ["json", "descriptors.npy", "lengths.npy"])
def test_a_damaged_gallery_is_told_or_computed_again_never_believed(tiles, network, ending):
    first = opened(tiles, network)
    (file,) = (tiles.parent / "kept").glob(f"*.{ending}")
    whole = file.read_bytes()
    for damaged in (b"", b"{}", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(GalleryError, match="are damaged .*remove the folder"):
            opened(tiles, network)
    file.write_bytes(whole)
    assert torch.equal(opened(tiles, network).descriptors.values, first.descriptors.values)

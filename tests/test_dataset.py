"""Reading VIGOR's folder: the embedded city, real label files, and everything that can be wrong."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_uploads import png_of_size

from vigorlib import geometry
from vigorlib.dataset import LabelError, Vigor, data_folder, panorama_latlon, tile_latlon
from vigorlib.images import ImageError, Pixels, read_image, resize
from vigorlib.pictures import FILL_RGB

LABELS = os.environ.get("VIGOR_LABELS")


@pytest.mark.parametrize("protocol", ["same-area", "cross-area"])
@pytest.mark.parametrize("subset", ["train", "test"])
def test_queries_tiles_and_offsets_agree_with_their_gps(city_root, protocol, subset):
    data = Vigor(city_root, protocol, subset)
    assert data.references.shape == (len(data), 4) and data.offsets_px.shape == (len(data), 4, 2)
    for city in data.cities:
        rows = data.queries.cities == city
        tiles = data.references[rows]
        assert (data.tiles.cities[tiles] == city).all()
        computed = geometry.label_offsets(
            data.queries.latlon[rows][:, None], data.tiles.latlon[tiles], city, "corrected"
        )
        np.testing.assert_array_equal(computed, data.offsets_px[rows])


def test_same_area_galleries_are_equal_and_queries_disjoint(city_root):
    train, test = (Vigor(city_root, "same-area", subset) for subset in ("train", "test"))
    assert (train.tiles.names == test.tiles.names).all()
    assert not set(train.queries.names) & set(test.queries.names)


def test_cross_area_cities_are_disjoint(city_root):
    train, test = (Vigor(city_root, "cross-area", subset) for subset in ("train", "test"))
    assert set(train.tiles.cities) == {"NewYork", "Seattle"}
    assert set(test.tiles.cities) == {"SanFrancisco", "Chicago"}


def test_both_label_systems_name_the_same_tiles(city_root):
    corrected, original = (Vigor(city_root, labels=labels) for labels in ("corrected", "original"))
    np.testing.assert_array_equal(corrected.references, original.references)
    assert not np.array_equal(corrected.offsets_px, original.offsets_px)


@pytest.mark.skipif(not LABELS, reason="VIGOR_LABELS names no folder of real label files")
def test_the_real_chicago_is_read_whole():
    train, test = (Vigor(LABELS, subset=s, cities=["Chicago"]) for s in ("train", "test"))
    assert (len(train.tiles), len(train), len(test)) == (22_308, 12_740, 12_739)
    leaking = np.isin(test.references[:, 0], train.references[:, 0]).mean()
    assert 0.46 < leaking < 0.49
    outside = (np.abs(test.offsets_px[:, 1:]) > 320).any(axis=-1).mean()
    assert outside == pytest.approx(0.061, abs=0.005)


def test_names_give_positions():
    assert panorama_latlon("-_aZ,41.5,-87.25,.jpg") == (41.5, -87.25)
    assert tile_latlon("satellite_41.5_-87.25.png") == (41.5, -87.25)
    for bad in ("no-commas.jpg", "a,b,c,.jpg"):
        with pytest.raises(LabelError, match="expected '<id>,<lat>,<lon>,.jpg'"):
            panorama_latlon(bad)
    with pytest.raises(LabelError, match="satellite_<lat>_<lon>"):
        tile_latlon("satellite_north_west.png")


# -- damage ----------------------------------------------------------------------------------


@pytest.fixture
def labels(city_root, tmp_path) -> Path:
    """A copy of the city's label files alone; reading labels opens no image."""
    shutil.copytree(city_root / "splits__corrected", tmp_path / "splits__corrected")
    return tmp_path


def chicago_train(root: Path) -> Path:
    return root / "splits__corrected/Chicago/same_area_balanced_train__corrected.txt"


def edit(path: Path, row: int, column: int, value: str) -> None:
    lines = path.read_text().splitlines()
    fields = lines[row].split()
    fields[column : column + 1] = [value] if value else []
    lines[row] = " ".join(fields)
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (1, 1, "satellite_0.0_0.0.png", r"satellite_0.0_0.0.png.*row 2 of .*not in satellite_list"),
        (0, 5, "", r"row 1 of .* has 12 fields: expected 13"),
        (2, 3, "north", r"row 3 of .* the offset 'north': expected a number"),
        (1, 2, "500.0", r"row 2 of .* expected the positive within 320 px"),
        (1, 2, "nan", r"row 2 of .* the offset 'nan': expected a number"),
        (0, 0, "nameless.jpg", "panorama name 'nameless.jpg' does not parse"),
    ],
)
def test_a_damaged_row_is_named_with_its_file(labels, row, column, value, message):
    edit(chicago_train(labels), row, column, value)
    with pytest.raises(LabelError, match=message):
        Vigor(labels)


def test_line_ends_and_compression_do_not_matter(labels):
    before = Vigor(labels)
    path = chicago_train(labels)
    text = path.read_text().replace("\r\n", "\n").replace("\n", "\r\n").rstrip()
    path.unlink()
    with gzip.open(path.with_suffix(".txt.gz"), "wt", newline="") as file:
        file.write(text)
    after = Vigor(labels)
    np.testing.assert_array_equal(after.offsets_px, before.offsets_px)


def test_a_missing_file_says_where_it_was_expected(labels):
    chicago_train(labels).unlink()
    with pytest.raises(FileNotFoundError, match=r"Chicago.*splits__corrected/Chicago"):
        Vigor(labels)


def test_an_empty_file_is_refused(labels):
    chicago_train(labels).write_text("\n")
    with pytest.raises(LabelError, match="holds no row"):
        Vigor(labels)


def test_unknown_words_name_the_known_ones(city_root, tmp_path):
    with pytest.raises(ValueError, match="'same-area' or 'cross-area'"):
        Vigor(city_root, "everywhere")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'better': expected corrected, original, mercator"):
        Vigor(city_root, labels="better")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="not a folder"):
        data_folder("mini", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'full' needs data_root"):
        data_folder("full")
    with pytest.raises(ValueError, match="'full-original' needs data_root"):
        data_folder("full-original")


# -- images ----------------------------------------------------------------------------------


def test_a_truncated_image_is_named(city_root, tmp_path):
    whole = Vigor(city_root).queries.path(0).read_bytes()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="broken.jpg cannot be decoded"):
        read_image(broken)
    broken.write_bytes(b"")
    with pytest.raises(ImageError, match="broken.jpg cannot be decoded"):
        read_image(broken)
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "absent.jpg")


def reading(tmp_path, image, kind, **options):
    """What the data reader sees of a picture stored under a name that may say something else."""
    file = tmp_path / "tile.png"
    image.save(file, kind, **options)
    return read_image(file)


COLOURS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8))
COLOURS = COLOURS.resize((48, 32), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_the_content_says_what_an_image_is_not_its_name(tmp_path, kind):
    found = reading(tmp_path, COLOURS, kind)
    assert np.abs(found.astype(int) - np.asarray(COLOURS)).mean() < 4


def test_formats_that_start_programs_are_not_opened(tmp_path, monkeypatch):
    """Pillow hands PostScript to an interpreter, whatever the file's name."""
    import PIL.EpsImagePlugin

    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("started"))
    for kind in ("EPS", "GIF", "PPM"):
        with pytest.raises(ImageError, match="expected a whole JPEG, PNG, WebP or TIFF"):
            reading(tmp_path, COLOURS, kind)


def test_every_mode_becomes_the_colours_it_shows(tmp_path):
    cmyk = reading(tmp_path, COLOURS.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(cmyk.astype(int) - np.asarray(COLOURS)).mean() < 6
    palette = COLOURS.quantize(16)
    assert (reading(tmp_path, palette, "PNG") == np.asarray(palette.convert("RGB"))).all()
    clear = COLOURS.convert("RGBA")
    clear.putalpha(0)
    assert (reading(tmp_path, clear, "PNG") == FILL_RGB).all()
    frames = [COLOURS, Image.new("RGB", COLOURS.size)]
    first = reading(tmp_path, frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert (first == np.asarray(COLOURS)).all()


def test_sixteen_bits_keep_their_brightness(tmp_path):
    """Pillow's own conversion clips at 255: nearly every such image would be white."""
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    for kind in ("PNG", "TIFF"):
        assert (reading(tmp_path, Image.fromarray(ramp), kind)[..., 1] == ramp >> 8).all()


def test_a_rotated_image_is_read_upright_as_the_released_loader_does(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    turned = COLOURS.transpose(Image.Transpose.ROTATE_90)
    assert (reading(tmp_path, turned, "PNG", exif=exif) == np.asarray(COLOURS)).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_one_pixel_is_read_and_an_enormous_one_refused(tmp_path):
    assert reading(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3)), "PNG").tolist() == [[[1, 2, 3]]]
    assert (read_image(tmp_path / "tile.png", 8, 16) == (1, 2, 3)).all()
    (tmp_path / "tile.png").write_bytes(png_of_size(100_000, 100_000))
    with pytest.raises(ImageError, match="cannot be decoded.*decompression bomb"):
        read_image(tmp_path / "tile.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damage_anywhere_in_an_image_is_an_image_error(tmp_path, kind):
    file, rng = tmp_path / "tile.png", np.random.default_rng(0)
    COLOURS.save(file, kind)
    whole = file.read_bytes()
    for _ in range(40):
        hurt = bytearray(whole[: rng.integers(8, len(whole) + 1)])
        for place in rng.integers(0, len(hurt), 3):
            hurt[place] = rng.integers(0, 256)
        file.write_bytes(bytes(hurt))
        try:
            assert read_image(file, 8, 8).shape == (8, 8, 3)
        except ImageError as error:
            assert "tile.png" in str(error)


def test_resizing_averages_areas():
    pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    expected = np.rint(pixels.reshape(2, 2, 2, 2, 3).mean(axis=(1, 3)))
    assert np.abs(resize(pixels, 2, 2) - expected).max() <= 1


def test_cached_pixels_equal_decoded_ones(city_root, tmp_path):
    paths = Vigor(city_root).queries.paths()[:5]
    cached, direct = Pixels(paths, 32, 64, cache=tmp_path), Pixels(paths, 32, 64)
    cached.prepare(progress=False)
    assert cached[[3, 1]].shape == (2, 3, 32, 64)
    assert (cached[[3, 1]] == direct[[3, 1]]).all()
    assert len(list(tmp_path.iterdir())) == 1  # nothing half-written stays


def test_a_changed_source_is_decoded_again(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (10, 20, 30)).save(path)
    assert Pixels([path], 4, 4, cache=tmp_path / "c")[[0]][0, :, 0, 0].tolist() == [10, 20, 30]
    Image.new("RGB", (8, 8), (90, 20, 30)).save(path)
    os.utime(path, ns=(1, 1))
    assert Pixels([path], 4, 4, cache=tmp_path / "c")[[0]][0, :, 0, 0].tolist() == [90, 20, 30]


def test_a_failed_decode_leaves_no_array(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"not an image")
    with pytest.raises(ImageError):
        Pixels([path], 4, 4, cache=tmp_path / "c").prepare(progress=False)
    assert not list((tmp_path / "c").iterdir())


@pytest.mark.parametrize(("size", "fewer"), [((2048, 1024), True), ((1280, 640), False)])
def test_a_jpeg_much_too_large_is_decoded_smaller_and_looks_the_same(
    city_root, tmp_path, size, fewer
):
    street = next((city_root / "Seattle" / "panorama").glob("*.jpg"))
    large = tmp_path / "large.jpg"
    with Image.open(street) as small:
        small.resize(size, Image.Resampling.BICUBIC).save(large, quality=92)
    quick, whole = read_image(large, 320, 640), resize(read_image(large), 320, 640)
    difference = np.abs(quick.astype(int) - whole)
    assert (difference.max() > 0) == fewer
    assert difference.mean() < 1

"""Own pictures: panoramas turned north, phone pictures put where they belong, EXIF read and doubted."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from vigorlib import own_pictures
from vigorlib.exif import Crop, Shot, field_of_view
from vigorlib.own_pictures import PictureError, placed, prepare, turned_north, whole_panorama
from vigorlib.uploads import FILL_RGB, Upload, decode


@pytest.fixture(scope="module")
def sphere() -> np.ndarray:
    """A panorama whose colours are smooth functions of the direction, (256, 512, 3)."""
    azimuth = 2 * np.pi * ((np.arange(512) + 0.5) / 512 - 0.5)
    elevation = np.pi * (0.5 - (np.arange(256) + 0.5) / 256)
    return colours(azimuth[None], elevation[:, None])


def colours(azimuth, elevation) -> np.ndarray:
    x, y, z = direction(azimuth, elevation)
    return np.stack([128 + 100 * x, 128 + 100 * y, 128 + 100 * z], -1).round().astype(np.uint8)


def direction(azimuth, elevation):
    azimuth, elevation = np.broadcast_arrays(azimuth, elevation)
    return (
        np.cos(elevation) * np.sin(azimuth),
        np.sin(elevation),
        np.cos(elevation) * np.cos(azimuth),
    )


def camera(fov_deg: float, heading_deg: float, width: int = 240, height: int = 160) -> np.ndarray:
    """What a pinhole camera sees of the sphere: a ray a pixel, traced forwards."""
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    x = (np.arange(width) + 0.5 - width / 2)[None] / focal
    y = (height / 2 - np.arange(height) - 0.5)[:, None] / focal
    azimuth = np.arctan(x) + math.radians(heading_deg)
    return colours(azimuth, np.arctan2(y, np.hypot(x, 1)))


def with_exif(tags: dict, gps: dict, size=(40, 30), **options) -> Shot:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    exif.get_ifd(0x8825).update(gps)
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "JPEG", exif=exif, **options)
    return decode(out.getvalue()).shot


# -- panoramas -------------------------------------------------------------------------------


@pytest.mark.parametrize("heading", [0, 90, 180, 270, 45])
def test_a_heading_brings_north_into_the_centre(heading):
    """The column that looks north is 'heading' to the left of the centre."""
    panorama = np.zeros((64, 128, 3), dtype=np.uint8)
    panorama[:, (64 - heading * 128 // 360) % 128] = 255
    assert (turned_north(panorama, heading)[:, 64] == 255).all()


def test_east_of_a_camera_that_looked_east_ends_at_three_quarters(sphere):
    as_taken = np.roll(sphere, -128, axis=1)  # its centre column shows east
    assert (turned_north(as_taken, 90) == sphere).all()


def test_headings_go_round_and_come_back(sphere):
    found = dict(own_pictures.all_headings(sphere, 8))
    assert list(found) == [0, 45, 90, 135, 180, 225, 270, 315]
    assert (found[45.0] == turned_north(sphere, 45)).all()
    assert (turned_north(turned_north(sphere, 135), 225) == sphere).all()
    with pytest.raises(PictureError, match="steps is 0"):
        list(own_pictures.all_headings(sphere, 0))


def test_a_panorama_without_sky_and_ground_is_put_at_the_horizon(sphere):
    whole = whole_panorama(sphere[64:192])
    assert whole.shape == (256, 512, 3)
    assert (whole[64:192] == sphere[64:192]).all()
    assert (whole[:64] == FILL_RGB).all() and (whole[192:] == FILL_RGB).all()


def test_a_cropped_panorama_goes_back_to_its_place(sphere):
    crop = Crop(512, 256, left=100, top=30, width=200, height=90)
    whole = whole_panorama(sphere[30:120, 100:300], crop)
    assert (whole[30:120, 100:300] == sphere[30:120, 100:300]).all()
    assert (whole[:, :100] == FILL_RGB).all() and (whole[120:] == FILL_RGB).all()


def test_a_picture_that_is_no_panorama_is_refused_as_one(sphere):
    with pytest.raises(PictureError, match="200 x 256.*field of view"):
        whole_panorama(sphere[:, :200])


def test_large_panoramas_become_smaller_once():
    whole = whole_panorama(np.zeros((2000, 4000, 3), dtype=np.uint8))
    assert whole.shape == (1024, 2048, 3)


# -- a phone's picture -----------------------------------------------------------------------


@pytest.mark.parametrize(("fov", "heading"), [(60, 0), (60, 90), (35, 200), (100, -30), (90, 180)])
def test_a_phone_picture_lies_where_the_sphere_has_it(sphere, fov, heading):
    found = placed(camera(fov, heading), fov, heading, (256, 512))
    seen = (found != FILL_RGB).any(axis=2)
    inside = seen & ~_edge(seen)
    error = np.abs(found.astype(int) - sphere)[inside]
    assert inside.sum() > 500 and error.max() <= 4 and error.mean() < 1


def test_it_is_as_wide_as_its_field_of_view_and_the_rest_is_empty(sphere):
    found = placed(camera(90, 0), 90, 0, (256, 512))
    horizon = (found[128] != FILL_RGB).any(axis=1)
    assert abs(horizon.sum() - 512 * 90 / 360) <= 2
    assert horizon[256 - 60 : 256 + 60].all() and not horizon[:180].any()
    assert (found[0] == FILL_RGB).all() and (found[-1] == FILL_RGB).all()


def test_nothing_of_it_appears_behind_the_camera():
    found = placed(np.full((50, 50, 3), 255, np.uint8), 170, 0, (64, 128))
    assert (found[:, :32] == FILL_RGB).all() and (found[:, 96:] == FILL_RGB).all()


def test_it_is_upright_and_not_mirrored():
    picture = np.zeros((100, 100, 3), dtype=np.uint8)
    picture[:50, 50:] = 255  # top right
    found = placed(picture, 60, 0, (256, 512))[..., 0]
    assert found[115, 270] == 255 and found[115, 242] == 0 and found[141, 270] == 0


def test_fine_pictures_are_averaged_not_sampled():
    checks = np.indices((1200, 1200)).sum(axis=0) % 2 * 255
    found = placed(np.repeat(checks[..., None], 3, 2).astype(np.uint8), 60, 0, (128, 256))
    assert np.abs(found[60:68, 120:136].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("fov", [0, 171, -5, math.nan])
def test_impossible_fields_of_view_are_refused(fov):
    with pytest.raises(PictureError, match="expected 1 to 170"):
        placed(np.zeros((9, 9, 3), np.uint8), fov)


def test_impossible_headings_and_arrays_are_refused(sphere):
    with pytest.raises(PictureError, match="heading is nan"):
        prepare(sphere, math.nan)
    with pytest.raises(PictureError, match="expected \\(H, W, 3\\) uint8"):
        prepare(sphere.astype(float))
    with pytest.raises(PictureError, match="expected \\(H, W, 3\\) uint8"):
        prepare(sphere[..., 0])


# -- what the file says ----------------------------------------------------------------------


def test_gps_heading_and_focal_length_are_read():
    gps = {1: "S", 2: (33.0, 51.0, 36.0), 3: "W", 4: (70.0, 30.0, 0.0), 16: "T", 17: 123.5}
    shot = with_exif({41989: 26}, gps)
    assert shot.latlon == pytest.approx((-33.86, -70.5)) and shot.heading_deg == 123.5
    assert shot.fov_deg == pytest.approx(67.3, abs=0.1)  # 4:3 upright on its long side


def test_an_upright_picture_sees_less_wide():
    assert field_of_view(26, 3000, 4000) == pytest.approx(53.1, abs=0.1)
    assert field_of_view(36.0, 3600, 2400) == pytest.approx(2 * math.degrees(math.atan(0.5)))
    exif = Image.Exif()
    exif[274] = 6
    exif.get_ifd(0x8769)[41989] = 26
    out = io.BytesIO()
    Image.new("RGB", (40, 30)).save(out, "JPEG", exif=exif)
    assert decode(out.getvalue()).shot.fov_deg == pytest.approx(53.1, abs=0.1)


@pytest.mark.parametrize(
    "gps",
    [
        {2: (95.0, 0.0, 0.0), 4: (10.0, 0.0, 0.0), 17: 999.0},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
        {2: (10.0, 0.0, 0.0)},
        {},
    ],
)
def test_what_cannot_be_true_is_not_believed(gps):
    shot = with_exif({41989: 0}, gps)
    assert shot.latlon is None and shot.heading_deg is None and shot.fov_deg is None


def test_xmp_of_panoramas_is_read_in_both_spellings():
    for text in (
        '<x GPano:ProjectionType="equirectangular" GPano:PoseHeadingDegrees="350.5"/>',
        "<GPano:ProjectionType>equirectangular</GPano:ProjectionType>"
        "<GPano:PoseHeadingDegrees>350.5</GPano:PoseHeadingDegrees>",
    ):
        shot = with_exif({}, {17: 10.0}, xmp=text.encode())
        assert shot.panorama and shot.heading_deg == 350.5  # its own word, not EXIF's
    for text in ('GPano:PoseHeadingDegrees="1e999"', 'GPano:PoseHeadingDegrees="x"', "\xff\xfe"):
        assert with_exif({}, {}, xmp=text.encode()).heading_deg is None


def test_a_crop_that_does_not_fit_is_not_believed():
    names = (
        "FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaLeftPixels",
        "CroppedAreaTopPixels", "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels",
    )  # fmt: skip

    def crop(*values: int) -> Crop | None:
        pairs = zip(names, values, strict=True)
        text = " ".join(f'GPano:{name}="{value}"' for name, value in pairs)
        return with_exif({}, {}, xmp=text.encode()).crop

    assert crop(800, 400, 0, 100, 800, 200) == Crop(800, 400, 0, 100, 800, 200)
    assert crop(800, 400, 10, 100, 800, 200) is None
    assert crop(10**9, 5 * 10**8, 0, 0, 10, 10) is None
    assert crop(0, 0, 0, 0, 0, 0) is None


# -- prepared --------------------------------------------------------------------------------


def test_a_panorama_of_known_heading_is_turned(sphere):
    own = prepare(np.roll(sphere, -128, axis=1), heading_deg=90)
    assert own.kind == "panorama" and (own.panorama == sphere).all() and own.fov_deg is None


def test_an_unknown_heading_stays_unknown(sphere):
    own = prepare(sphere)
    assert own.heading_deg is None and "heading unknown" in own.notes
    assert (own.panorama == sphere).all()


def test_a_phone_picture_takes_its_angles_from_its_file():
    shot = Shot(latlon=(60.0, 24.0), heading_deg=90.0, fov_deg=60.0)
    upload = Upload(camera(60, 90), "JPEG", (240, 160), shot)
    own = prepare(upload)
    assert (own.kind, own.heading_deg, own.fov_deg) == ("phone", 90.0, 60.0)
    assert own.latlon == (60.0, 24.0) and own.panorama.shape == (512, 1024, 3)
    assert (own.panorama == placed(upload.pixels, 60, 90)).all()
    assert prepare(upload, heading_deg=10, fov_deg=50).fov_deg == 50  # the person knows better


def test_an_assumed_field_of_view_is_said():
    own = prepare(camera(60, 0), heading_deg=0)
    assert any("assumed" in note for note in own.notes)


def _edge(seen: np.ndarray) -> np.ndarray:
    """Pixels beside an unseen one: half picture, half empty."""
    inner = seen.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(seen, step, axis)
    return seen & ~inner

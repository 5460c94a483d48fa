"""Uploads: what is let in, and one clear sentence for what is not."""

from __future__ import annotations

import dataclasses
import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from vigorlib import uploads
from vigorlib.uploads import LIMITS, UploadError, decode, read_upload, safe_label

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
"""Pillow's, about the damaged and huge pictures made here."""


def picture(width: int = 64, height: int = 32, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (4, 8, 3), dtype=np.uint8)
    return Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, with a few bytes of pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_four_formats_are_read(kind):
    upload = decode(stored(picture(), kind))
    assert upload.kind == kind and upload.original_px == (64, 32)
    assert upload.pixels.shape == (32, 64, 3) and upload.pixels.dtype == np.uint8
    difference = np.abs(upload.pixels.astype(int) - np.asarray(picture()))
    assert difference.mean() < 6


def test_the_decoding_process_gives_the_same_as_decoding_here():
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(
        {1: "N", 2: (60.0, 30.0, 0.0), 3: "E", 4: (24.0, 0.0, 0.0), 17: 90.0}
    )
    data = stored(picture(), "JPEG", exif=exif)
    here, there = decode(data), read_upload(data)
    assert (here.pixels == there.pixels).all()
    assert here.shot == there.shot and there.shot.latlon == (60.5, 24.0)
    assert (here.kind, here.original_px) == (there.kind, there.original_px)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM"])
def test_other_formats_are_refused_whatever_their_name(kind):
    with pytest.raises(UploadError, match="expected a JPEG, PNG, WebP or TIFF"):
        decode(stored(picture(), kind))


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"%PDF-1.7", b"PK\3\4", b"\0" * 99])
def test_what_is_no_picture_is_refused_before_a_process_starts(data, monkeypatch):
    monkeypatch.setattr(uploads.subprocess, "run", None)
    with pytest.raises(UploadError, match="the file begins with"):
        read_upload(data)


def test_a_wrong_ending_does_not_matter(tmp_path):
    (tmp_path / "street.txt").write_bytes(stored(picture(), "PNG"))
    assert uploads.read_picture(tmp_path / "street.txt").kind == "PNG"
    (tmp_path / "street.jpg").write_bytes(stored(picture(), "GIF"))
    with pytest.raises(UploadError, match="its content counts, not its name"):
        uploads.read_picture(tmp_path / "street.jpg")


def test_zero_bytes_are_refused():
    with pytest.raises(UploadError, match="empty"):
        read_upload(b"")


def test_a_missing_file_is_an_upload_error(tmp_path):
    with pytest.raises(UploadError, match="is not a file"):
        uploads.read_picture(tmp_path / "nothing.jpg")


def test_too_many_bytes_are_refused_and_not_read(tmp_path):
    (tmp_path / "large.jpg").write_bytes(stored(picture(), "PNG") + bytes(5000))
    with pytest.raises(UploadError, match="larger than"):
        uploads.read_picture(tmp_path / "large.jpg", dataclasses.replace(LIMITS, bytes=3000))


@pytest.mark.parametrize("side", [12_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side, monkeypatch):
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    with pytest.raises(UploadError, match="million pixels.*not decoded|cannot be decoded"):
        decode(png_of_size(side, side))


def test_a_bomb_does_not_harm_the_session():
    started = time.perf_counter()
    with pytest.raises(UploadError, match="million pixels"):
        read_upload(png_of_size(100_000, 100_000))
    assert time.perf_counter() - started < 15


def test_one_pixel_is_refused():
    with pytest.raises(UploadError, match="1 x 1 pixels: expected at least 16"):
        decode(stored(Image.new("RGB", (1, 1)), "PNG"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_picture_is_refused(kind):
    data = stored(picture(256, 128), kind)
    with pytest.raises(UploadError, match="truncated or damaged"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damage_anywhere_never_raises_anything_else(kind):
    data, rng = bytearray(stored(picture(), kind)), np.random.default_rng(0)
    for _ in range(60):
        hurt = bytearray(data)
        for place in rng.integers(8, len(data), 4):
            hurt[place] = rng.integers(0, 256)
        try:
            assert decode(bytes(hurt)).pixels.shape[2] == 3
        except UploadError:
            pass


def test_a_small_file_that_decodes_for_ages_is_ended():
    """A progressive JPEG may refine the same pixels again and again: 400 kB, minutes of work."""
    data = stored(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    bomb = data[:-2] + 2000 * last_scan + data[-2:]
    started = time.perf_counter()
    with pytest.raises(UploadError, match="not decoded after 1 s"):
        read_upload(bomb, dataclasses.replace(LIMITS, seconds=1.0))
    assert time.perf_counter() - started < 10 and len(bomb) < LIMITS.bytes


def test_a_decoder_that_runs_out_of_memory_leaves_the_session_alone():
    limits = dataclasses.replace(LIMITS, memory_bytes=300 * 2**20, longest_px=30_000)
    large = stored(Image.new("1", (10_000, 10_000)), "PNG")
    with pytest.raises(UploadError, match="too much memory|decoder stopped"):
        read_upload(large, limits)
    assert read_upload(stored(picture(), "PNG")).kind == "PNG"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    upright = np.zeros((32, 64, 3), dtype=np.uint8)
    upright[:16, :32] = (255, 0, 0)  # red at the top left
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # the way back
    image = Image.fromarray(upright)
    image = image if turn is None else image.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[274] = orientation
    assert (decode(stored(image, "PNG", exif=exif)).pixels == upright).all()


def test_animations_show_their_first_frame():
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    for kind, options in (("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        data = stored(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (decode(data).pixels == (255, 0, 0)).all()


def test_cmyk_keeps_its_colours():
    for kind in ("JPEG", "TIFF"):
        found = decode(stored(picture(mode="CMYK"), kind)).pixels
        assert np.abs(found.astype(int) - np.asarray(picture())).mean() < 6


def test_sixteen_bits_keep_their_brightness():
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    for kind in ("PNG", "TIFF"):
        found = decode(stored(Image.fromarray(ramp), kind)).pixels
        assert (found[..., 0] == ramp >> 8).all() and (found[..., 0] == found[..., 2]).all()


def test_floating_point_pixels_are_refused():
    with pytest.raises(UploadError, match="floating-point"):
        decode(stored(Image.fromarray(np.ones((32, 32), dtype=np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P"])
def test_grey_and_palettes_become_colours(mode):
    image = picture().quantize(16) if mode == "P" else picture(mode=mode)
    found = decode(stored(image, "PNG")).pixels
    assert (found == np.asarray(image.convert("RGB"))).all()


def test_what_is_transparent_shows_the_mean_colour():
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 255))
    image.paste((0, 255, 0, 0), (0, 0, 16, 32))
    found = decode(stored(image, "PNG")).pixels
    assert (found[:, :16] == uploads.FILL_RGB).all() and (found[:, 16:] == (255, 0, 0)).all()


def test_large_pictures_come_smaller():
    limits = dataclasses.replace(LIMITS, longest_px=100)
    for kind in ("JPEG", "PNG"):
        upload = decode(stored(picture(1000, 500), kind), limits)
        assert upload.pixels.shape == (50, 100, 3) and upload.original_px == (1000, 500)


def test_pillow_is_left_as_it_was():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    read_upload(stored(picture(), "JPEG"))
    decode(stored(picture(), "JPEG"))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before


def test_messages_hold_nothing_that_a_page_takes_for_html():
    broken = stored(picture(), "PNG").replace(b"IDAT", b"<b>&")
    for data in (b"<script>alert(1)</script>", broken, b"\x89PNG\r\n\x1a\n<img src=x>"):
        with pytest.raises(UploadError) as refused:
            decode(data)
        assert not set("<>&\"'") & set(str(refused.value))


def test_labels_are_safe_to_show():
    assert safe_label("<img src=x onerror=alert(1)>.jpg") == (
        "&lt;img src=x onerror=alert(1)&gt;.jpg"
    )
    assert safe_label("../../etc/passwd") == "passwd" and safe_label(r"C:\me\a.png") == "a.png"
    assert safe_label("a\"b'c&.png") == "a&quot;b&#x27;c&amp;.png"
    assert safe_label("gpj.\u202eexe\n\0") == "gpj.exe"  # no direction marks, no control characters
    assert safe_label("") == safe_label("///") == "picture"
    assert len(safe_label("x" * 500)) == 60
